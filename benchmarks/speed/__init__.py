"""How fast the steps are, beside the ways in which others take them."""
