"""Loops of which a script compiles a part with `torch.compile`.

The backend is "eager": what is compiled is traced as ever, and no compiler for C++ is needed.
"""

from training_kit import problem, said_by_us

from training_ways.bench import way


def _batches(bench):
    x, y = problem()
    tensor = bench.kit.torch.tensor
    return [(tensor(x[at : at + 8]), tensor(y[at : at + 8])) for at in (0, 8, 16)]


def _compiled(bench, function):
    bench.kit.torch._dynamo.reset()
    return bench.kit.torch.compile(function, backend="eager")


def _update(bench, model, loss):
    loss.backward()
    weights = list(model.trainable_weights)
    with bench.kit.torch.no_grad():
        model.optimizer.apply([weight.value.grad for weight in weights], weights)


@way("keras3-torch")
def compiled_forward(bench):
    def loop(model, recording):
        forward = _compiled(bench, model)
        for number, (x, y) in enumerate(_batches(bench)):
            model.zero_grad()
            loss = ((forward(x) - y) ** 2).mean()
            if recording is not None and number:
                recording.batch(x, y, loss=loss.detach())
            _update(bench, model, loss)

    bench.facts["said"] = said_by_us(lambda: bench.twice_in_a_block(bench.kit.mlp, loop))


@way("keras3-torch")
def compiled_step(bench):
    def loop(model, recording):
        def step(x, y):
            model.zero_grad()
            _update(bench, model, ((model(x, training=True) - y) ** 2).mean())

        step = _compiled(bench, step)
        for x, y in _batches(bench):
            step(x, y)

    bench.facts["said"] = said_by_us(lambda: bench.twice_in_a_block(bench.kit.mlp, loop))
