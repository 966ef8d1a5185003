"""The kinds of samples that a network can be made to give, one file each."""
