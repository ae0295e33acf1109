"""Drivers by name: ours, and those of other packages."""

from importlib.metadata import EntryPoint

import pytest

from emgd import config
from emgd_drivers import registry, skeleton


def with_entry_points(monkeypatch, **points):
    made = [EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in points.items()]

    def entry_points(*, group, name=None):
        return [point for point in made if point.group == group and name in (None, point.name)]

    monkeypatch.setattr(registry, "entry_points", entry_points)


@pytest.mark.parametrize("name", registry.DRIVERS)
def test_every_driver_of_ours_has_what_a_driver_needs(name):
    assert registry.driver_fields(name)
    assert isinstance(registry.hotplug_subsystems(name), tuple)


@pytest.mark.parametrize("name", registry.STIMULATORS)
def test_every_stimulator_driver_of_ours_has_what_one_needs(name):
    assert registry.stimulator_fields(name)
    assert isinstance(registry.stimulator_hotplug(name), tuple)
    assert callable(registry._stimulator_module(name).open_stimulator)


def test_a_stimulator_of_another_package_joins_by_entry_point(monkeypatch):
    made = [
        EntryPoint("mine", "emgd_drivers.ncs1.driver", registry.STIMULATOR_ENTRY_POINTS),
        EntryPoint("ncs1", "emgd_drivers.skeleton", registry.STIMULATOR_ENTRY_POINTS),
    ]

    def entry_points(*, group, name=None):
        return [point for point in made if point.group == group and name in (None, point.name)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert registry.stimulator_names() == (*registry.STIMULATORS, "mine")
    assert registry.stimulator_fields("mine") is registry.stimulator_fields("ncs1")
    assert registry.driver_names() == tuple(registry.DRIVERS)
    with pytest.raises(KeyError):
        registry.stimulator_fields("sim")


def test_a_driver_of_another_package_joins_by_entry_point(monkeypatch):
    with_entry_points(monkeypatch, mine="emgd_drivers.skeleton")
    assert registry.driver_names() == (*registry.DRIVERS, "mine")
    assert registry.driver_fields("mine") is skeleton.FIELDS
    assert registry.hotplug_subsystems("mine") == ("tty",)
    loaded = config.load(None, {"device": {"driver": "mine", "port": "/dev/ttyUSB7"}})
    assert str(loaded.device["port"]) == "/dev/ttyUSB7"


def test_a_stimulator_joins_by_an_entry_point_of_its_own(monkeypatch):
    made = EntryPoint("mine", "emgd_drivers.skeleton", registry.STIMULATOR_ENTRY_POINTS)
    with_points = {registry.STIMULATOR_ENTRY_POINTS: [made]}
    monkeypatch.setattr(registry, "entry_points", lambda *, group, name=None: with_points.get(group, []))
    assert registry.stimulator_names() == (*registry.STIMULATORS, "mine")
    assert registry.stimulator_fields("mine") is skeleton.FIELDS
    assert "mine" not in registry.driver_names()
    with pytest.raises(KeyError):
        registry.driver_fields("mine")


def test_our_names_stay_ours(monkeypatch):
    with_entry_points(monkeypatch, sim="emgd_drivers.skeleton")
    assert registry.driver_names() == tuple(registry.DRIVERS)
    assert registry.driver_fields("sim") is not skeleton.FIELDS


def test_an_unknown_driver_is_named_with_those_there_are(monkeypatch):
    with_entry_points(monkeypatch, mine="emgd_drivers.skeleton")
    with pytest.raises(config.ConfigError, match=r"sim, replay, emg8, .*, mine"):
        config.load(None, {"device": {"driver": "none"}})
