"""What others do, run side by side on the same networks and the same data."""
