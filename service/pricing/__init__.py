"""What would an order get?  Pure: sweeps and quotes."""
