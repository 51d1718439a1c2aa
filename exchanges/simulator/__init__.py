"""Six venues in a box: one seeded market, served in the venues' own REST formats, with faults to order."""

from exchanges.simulator.faults import FAULTS
from exchanges.simulator.market import VENUES, SimulatedMarket
from exchanges.simulator.server import Simulator, create_app, run_in_thread, running, serve

__all__ = ["FAULTS", "VENUES", "SimulatedMarket", "Simulator", "create_app", "run_in_thread", "running", "serve"]
