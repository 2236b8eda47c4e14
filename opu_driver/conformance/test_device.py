"""What every device must do, whatever it is."""

from __future__ import annotations

import inspect

import pytest

from opu_driver import registry
from opu_driver.bench import Bench
from opu_driver.bench_file import BenchFile
from opu_driver.device import Device
from opu_driver.errors import DeviceStateError, DriverMissingError
from opu_driver.registry import Kind

pytestmark = pytest.mark.disturbs(0)


@pytest.fixture(params=["modulator", "camera", "laser"])
def device(request: pytest.FixtureRequest, closed_bench: Bench) -> Device:
    found = getattr(closed_bench, request.param)
    assert isinstance(found, Device)
    return found


def test_it_opens_once_closes_twice_and_opens_again(device: Device) -> None:
    for _ in range(2):
        with device:
            assert device.is_open
            with pytest.raises(DeviceStateError, match="open already"):
                device.open()
            assert device.is_open
        assert not device.is_open
        device.close()


def test_it_says_who_it_is_the_same_each_time(device: Device) -> None:
    with device:
        first = device.identity
    with device:
        again = device.identity
    assert first.vendor
    assert first.model
    assert first.serial
    assert again == first


def test_its_address_is_known_before_it_is_open(device: Device) -> None:
    before = device.address
    assert before or device.simulated, "nobody can be kept from a device without an address"
    with device:
        assert device.address == before


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_found_can_be_told_apart_and_addressed(kind: Kind, bench_file: BenchFile) -> None:
    """The driver is asked, not the device: a laser is behind its guardian, which finds none."""
    driver = registry.find(kind, getattr(bench_file, kind.value).driver)
    try:
        found = driver.discover()
    except DriverMissingError as error:
        pytest.skip(str(error))
    assert len({str(sorted(one.options.items())) for one in found}) == len(found)
    parameters = inspect.signature(driver).parameters
    assert all(key in parameters for one in found for key in one.options)
