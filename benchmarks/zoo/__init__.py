"""Every architecture of the zoo in every form it may come in: read, analysed, pruned, written."""
