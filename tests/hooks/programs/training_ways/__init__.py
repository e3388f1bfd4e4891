"""Ways of training small models, which the programs beside this package train in."""
