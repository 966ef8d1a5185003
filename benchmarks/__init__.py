"""One runnable module per claim, each printing one table and writing it to results/."""
