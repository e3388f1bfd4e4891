/* Single passes over float32 arrays: what `single.py` and `single_updates.py` compute, read once.
 *
 * Plain C without Python's headers, so that one library serves every Python of a machine. Sums are
 * formed in float64, in a fixed order and without fused multiplications: the same numbers on every
 * processor. What is done to each element is done in float32, as numpy does it.
 */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif

/* Raised with each change of what a function takes or returns. */
EXPORT int tracediff_drift_version(void) { return 1; }

/* Elements whose sums are formed before they are added to the rest: as in `products.py`. */
#define PIECE 512
/* Elements of each array worked on at a time, as in `single_updates.py`. */
#define BLOCK 32768
#define MAGNITUDE 0x7fffffff

/* How many sums are formed side by side; element i belongs to sum i % LANES. */
#define LANES 32

/* A sum and what was rounded off it: Knuth, The Art of Computer Programming, volume 2, 4.2.2. */
typedef struct {
    double total, lost;
} Sum;

INLINE void add(Sum *sum, double part) {
    double total = sum->total + part, added = total - sum->total;
    sum->lost += (sum->total - (total - added)) + (part - added);
    sum->total = total;
}

INLINE double over(const Sum *sum) { return sum->total + sum->lost; }

/* The sum of the lanes, in pairs. */
INLINE double across(double *sums) {
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) sums[lane] += sums[lane + half];
    return sums[0];
}

/* The inner product of two pieces. */
INLINE double product(const float *a, const float *b) {
    double sums[LANES] = {0};
    for (int place = 0; place < PIECE; place += LANES)
        for (int lane = 0; lane < LANES; lane++)
            sums[lane] += (double)a[place + lane] * (double)b[place + lane];
    return across(sums);
}

/* Sums over two pieces and their difference: of the squares of each, and of the product. */
INLINE void products(const float *a, const float *b, const float *difference, double *found) {
    double squares_a[LANES] = {0}, squares_b[LANES] = {0}, squares[LANES] = {0}, dots[LANES] = {0};
    for (int place = 0; place < PIECE; place += LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            double one = a[place + lane], other = b[place + lane], apart = difference[place + lane];
            squares_a[lane] += one * one;
            squares_b[lane] += other * other;
            squares[lane] += apart * apart;
            dots[lane] += one * other;
        }
    }
    found[0] = across(squares_a);
    found[1] = across(squares_b);
    found[2] = across(squares);
    found[3] = across(dots);
}

/* Where a piece begins, or a copy of its elements that is filled up with zeros. */
INLINE const float *piece(const float *values, int64_t start, int64_t count, float *room) {
    if (count == PIECE) return values + start;
    memset(room, 0, PIECE * sizeof *room);
    memcpy(room, values + start, count * sizeof *room);
    return room;
}

typedef struct {
    Sum sums[4]; /* squares of a, of b, of the difference; product */
    uint32_t peak, apart, distance;
    int64_t different;
    int outside; /* a sum of squares of a piece is none of float32 */
} Value;

INLINE void add_value(Value *value, const float *a, const float *b, int64_t size) {
    float room_a[PIECE], room_b[PIECE], difference[PIECE];
    for (int64_t start = 0; start < size; start += PIECE) {
        int64_t count = size - start < PIECE ? size - start : PIECE;
        const float *one = piece(a, start, count, room_a), *other = piece(b, start, count, room_b);
        uint32_t peak = value->peak, most = value->apart, distance = value->distance;
        int32_t different = 0;
        double found[4];
        for (int place = 0; place < PIECE; place++) {
            float apart = one[place] - other[place];
            int32_t bits_a, bits_b, bits;
            memcpy(&bits_a, one + place, sizeof bits_a);
            memcpy(&bits_b, other + place, sizeof bits_b);
            memcpy(&bits, &apart, sizeof bits);
            difference[place] = apart;
            uint32_t size_a = bits_a & MAGNITUDE, size_b = bits_b & MAGNITUDE;
            uint32_t size_apart = bits & MAGNITUDE;
            peak = size_a > peak ? size_a : peak;
            peak = size_b > peak ? size_b : peak;
            most = size_apart > most ? size_apart : most;
            different += size_apart != 0;
            /* In order as integers, with both zeros at 0. */
            int32_t sign_a = bits_a >> 31, sign_b = bits_b >> 31;
            int32_t key_a = ((int32_t)size_a ^ sign_a) - sign_a;
            int32_t key_b = ((int32_t)size_b ^ sign_b) - sign_b;
            uint32_t between = key_a > key_b ? (uint32_t)key_a - (uint32_t)key_b
                                             : (uint32_t)key_b - (uint32_t)key_a;
            distance = between > distance ? between : distance;
        }
        value->peak = peak;
        value->apart = most;
        value->distance = distance;
        value->different += different;
        products(one, other, difference, found);
        for (int number = 0; number < 4; number++) add(&value->sums[number], found[number]);
        for (int number = 0; number < 3; number++) value->outside |= !(found[number] <= FLT_MAX);
    }
}

INLINE float magnitude_of(uint32_t bits) {
    float found;
    memcpy(&found, &bits, sizeof found);
    return found;
}

#define VALUE_NUMBERS 9

INLINE void put_value(const Value *value, double *found) {
    for (int number = 0; number < 4; number++) found[number] = over(&value->sums[number]);
    found[4] = magnitude_of(value->peak);
    found[5] = magnitude_of(value->apart);
    found[6] = (double)value->different;
    found[7] = value->distance;
    found[8] = value->outside;
}

/* An update of a weight: `before` and `after` are numbers of moments, the inputs are `pairs` from
 * `first` on. */
typedef struct {
    int64_t before, after, first, pairs;
    double level;    /* up to where differences of the first input are rounding; NaN for none */
    int64_t weights; /* whether the squares of the weight after it are wanted */
} Update;

/* How inputs are weighed; see `single_updates.Inputs`. */
typedef struct {
    float feedback, amplification, amplified;
} Weighed;

typedef struct {
    Sum sums[4]; /* squares of the update of A, of B, of the difference; product */
    Sum left, noise, after_a, after_b;
    uint32_t apart;
    int64_t different;
    int outside;
} Moved;

/* The largest relative difference of the inputs, and the first one's difference. */
INLINE void inherit(
    const float *const *a, const float *const *b, int64_t pairs, int64_t start, int64_t count,
    float *inherited, float *first) {
    float room_a[PIECE], room_b[PIECE];
    for (int64_t pair = 0; pair < pairs; pair++) {
        const float *one = piece(a[pair], start, count, room_a);
        const float *other = piece(b[pair], start, count, room_b);
        for (int place = 0; place < PIECE; place++) {
            float apart = fabsf(one[place] - other[place]);
            float size_a = fabsf(one[place]), size_b = fabsf(other[place]);
            float size = size_a > size_b ? size_a : size_b;
            /* Where both are zero so is the numerator. */
            float found = apart / (size > FLT_MIN ? size : FLT_MIN);
            /* NaN stays: the row is summed up in float64 then. */
            int larger = pair == 0 || !(found <= inherited[place]);
            int lost = pair != 0 && inherited[place] != inherited[place];
            inherited[place] = larger & !lost ? found : inherited[place];
            if (pair == 0) first[place] = apart;
        }
    }
}

INLINE void add_moved(
    Moved *moved, const Update *update, const Weighed *weighed, const float *const *inputs_a,
    const float *const *inputs_b, const float *const state[4], int64_t begin, int64_t size) {
    float rooms[4][PIECE], one[PIECE], other[PIECE], apart[PIECE], rest[PIECE];
    float inherited[PIECE], first[PIECE], noise[PIECE];
    Sum left = {0, 0}, noisy = {0, 0};
    uint32_t top = 0;
    for (int64_t start = begin; start < begin + size; start += PIECE) {
        int64_t count = begin + size - start < PIECE ? begin + size - start : PIECE;
        const float *before_a = piece(state[0], start, count, rooms[0]);
        const float *after_a = piece(state[1], start, count, rooms[1]);
        const float *before_b = piece(state[2], start, count, rooms[2]);
        const float *after_b = piece(state[3], start, count, rooms[3]);
        int32_t different = 0;
        double found[4];
        for (int place = 0; place < PIECE; place++) {
            int32_t bits;
            one[place] = after_a[place] - before_a[place];
            other[place] = after_b[place] - before_b[place];
            apart[place] = one[place] - other[place];
            memcpy(&bits, apart + place, sizeof bits);
            uint32_t size_apart = bits & MAGNITUDE;
            top = size_apart > top ? size_apart : top;
            different += size_apart != 0;
        }
        moved->different += different;
        products(one, other, apart, found);
        for (int number = 0; number < 4; number++) add(&moved->sums[number], found[number]);
        for (int number = 0; number < 3; number++) moved->outside |= !(found[number] <= FLT_MAX);
        if (update->weights) {
            double square_a = product(after_a, after_a), square_b = product(after_b, after_b);
            add(&moved->after_a, square_a);
            add(&moved->after_b, square_b);
            moved->outside |= !(square_a <= FLT_MAX) | !(square_b <= FLT_MAX);
        }
        if (update->pairs) {
            inherit(inputs_a, inputs_b, update->pairs, start, count, inherited, first);
            if (update->level == update->level) {
                float level = (float)update->level;
                for (int place = 0; place < PIECE; place++) {
                    int small = first[place] <= level, large = inherited[place] > weighed->amplified;
                    noise[place] = small & large ? apart[place] : 0.0f;
                }
                add(&noisy, product(noise, noise));
            }
            for (int place = 0; place < PIECE; place++) {
                float size_a = fabsf(one[place]), size_b = fabsf(other[place]);
                float explained = inherited[place] * (size_a > size_b ? size_a : size_b);
                rest[place] = fabsf(apart[place]) - explained * weighed->amplification;
            }
        } else {
            for (int place = 0; place < PIECE; place++) rest[place] = fabsf(apart[place]);
        }
        for (int place = 0; place < PIECE; place++) {
            float drift = fabsf(before_a[place] - before_b[place]) * weighed->feedback;
            float unexplained = rest[place] - drift;
            rest[place] = unexplained < 0.0f ? 0.0f : unexplained;
        }
        add(&left, product(rest, rest));
    }
    moved->apart = top > moved->apart ? top : moved->apart;
    /* Where both runs did the same nothing is left to explain, whatever went in. */
    if (top == 0) return;
    add(&moved->left, over(&left));
    add(&moved->noise, over(&noisy));
}

#define MOVED_NUMBERS 11

INLINE void put_moved(const Moved *moved, double *found) {
    for (int number = 0; number < 4; number++) found[number] = over(&moved->sums[number]);
    found[4] = magnitude_of(moved->apart);
    found[5] = (double)moved->different;
    found[6] = over(&moved->left);
    found[7] = over(&moved->noise);
    found[8] = over(&moved->after_a);
    found[9] = over(&moved->after_b);
    found[10] = moved->outside;
}

EXPORT int64_t tracediff_drift_room(int64_t moments, int64_t updates) {
    return moments * (int64_t)sizeof(Value) + updates * (int64_t)sizeof(Moved);
}

/* Sums up how far values at some moments are apart, and updates between them.
 *
 * A part of all values is worked on before the next one is, so that it is read from memory once.
 * `wanted` says of which moments the sums are wanted; updates come in the order of the later of
 * their moments. `room` is zeros, as many bytes as `tracediff_drift_room` says. `values` gets
 * VALUE_NUMBERS for each moment, `moves` MOVED_NUMBERS for each update.
 */
EXPORT WIDEST void tracediff_drift(
    const float *const *a, const float *const *b, int64_t moments, int64_t size,
    const uint8_t *wanted, const Update *updates, int64_t count, const float *const *inputs_a,
    const float *const *inputs_b, const Weighed *weighed, void *room, double *values,
    double *moves) {
    Value *value = room;
    Moved *moved = (Moved *)(value + moments);
    for (int64_t start = 0; start < size; start += BLOCK) {
        int64_t part = size - start < BLOCK ? size - start : BLOCK, next = 0;
        for (int64_t moment = 0; moment < moments; moment++) {
            if (wanted[moment]) add_value(value + moment, a[moment] + start, b[moment] + start, part);
            for (; next < count; next++) {
                const Update *one = updates + next;
                if ((one->before > one->after ? one->before : one->after) != moment) break;
                const float *const state[4] = {
                    a[one->before], a[one->after], b[one->before], b[one->after]};
                add_moved(
                    moved + next, one, weighed, inputs_a + one->first, inputs_b + one->first, state,
                    start, part);
            }
        }
    }
    for (int64_t moment = 0; moment < moments; moment++)
        put_value(value + moment, values + moment * VALUE_NUMBERS);
    for (int64_t number = 0; number < count; number++)
        put_moved(moved + number, moves + number * MOVED_NUMBERS);
}
