"""The durable record behind one Protocol."""
