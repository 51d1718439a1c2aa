"""Six venues in a box: one seeded market, served in the venues' own REST formats, with faults to order."""

from exchanges.simulator.faults import FAULTS
from exchanges.simulator.market import VENUES, SimulatedMarket
from exchanges.simulator.playing import Play
from exchanges.simulator.scenario import Scenario, ScenarioError
from exchanges.simulator.scenario_files import load_scenario, scenario_names
from exchanges.simulator.server import Simulator, create_app, run_in_thread, running, serve

__all__ = [
    "FAULTS",
    "VENUES",
    "Play",
    "Scenario",
    "ScenarioError",
    "SimulatedMarket",
    "Simulator",
    "create_app",
    "load_scenario",
    "run_in_thread",
    "running",
    "scenario_names",
    "serve",
]
