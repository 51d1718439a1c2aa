"""What do the venues show?  Usable alone: ``python -m exchanges BTC/USDT``."""
