"""Watts, where they can be read: kernels that are made of files, and a power chip that is made of text."""

from __future__ import annotations

from pathlib import Path

import pytest

from counter.agent.power import Meters, measure

PMIC = """   3V7_WL_SW_A current(0)=0.10000000A
     3V3_SYS_A current(1)=0.20000000A
     VDD_CORE_A current(7)=1.50000000A
   3V7_WL_SW_V volt(8)=3.70000000V
     3V3_SYS_V volt(9)=3.30000000V
     VDD_CORE_V volt(15)=0.80000000V
     EXT5V_V volt(24)=5.10000000V
"""


class Kernel:
    """A folder that looks like /sys, and a clock that runs while one sleeps."""

    def __init__(self, folder: Path) -> None:
        self.powercap, self.hwmon, self.now = folder / "powercap", folder / "hwmon", 0.0
        self.while_asleep = lambda: None
        self.pmic_says: str | None = None

    def meters(self) -> Meters:
        return Meters(self.powercap, self.hwmon, self.pmic, lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.while_asleep()

    def pmic(self) -> str:
        if self.pmic_says is None:
            raise FileNotFoundError("vcgencmd")
        return self.pmic_says

    def zone(self, place: str, name: str, joules: float, wraps: float = 1000.0) -> Path:
        folder = self.powercap / place
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{wraps * 1e6:.0f}\n")
        (folder / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
        return folder / "energy_uj"

    def sensor(self, place: str, chip: str, watts: float, label: str = "") -> Path:
        folder = self.hwmon / place
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{chip}\n")
        (folder / "power1_input").write_text(f"{watts * 1e6:.0f}\n")
        if label:
            (folder / "power1_label").write_text(f"{label}\n")
        return folder / "power1_input"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_a_board_that_says_nothing_is_not_given_a_figure(kernel: Kernel) -> None:
    power = measure(5.0, kernel.meters())
    assert power.watts is None
    assert power.words.startswith("not readable here: vcgencmd pmic_read_adc: there is none; ")
    assert "no sensor of power" in power.words
    assert "no RAPL" in power.words
    assert kernel.now == 5.0  # who measures something else meanwhile waits all the same


def test_packages_and_memory_are_added_up_and_cores_are_inside_them(kernel: Kernel) -> None:
    package = kernel.zone("intel-rapl:0", "package-0", 10.0)
    cores = kernel.zone("intel-rapl:0:0", "core", 5.0)
    memory = kernel.zone("intel-rapl:0:1", "dram", 999.0)

    def spend() -> None:
        package.write_text(f"{50 * 10**6}")
        cores.write_text(f"{40 * 10**6}")
        memory.write_text(f"{4 * 10**6}")  # it began anew at 1000 J

    kernel.while_asleep = spend
    power = measure(10.0, kernel.meters())
    assert power.watts == pytest.approx((40.0 + 5.0) / 10.0)
    assert power.words == "RAPL package-0, dram: the processor, not the whole board"


def test_the_whole_platform_is_taken_alone(kernel: Kernel) -> None:
    package, whole = kernel.zone("intel-rapl:0", "package-0", 0.0), kernel.zone("intel-rapl:1", "psys", 0.0)

    def spend() -> None:
        package.write_text(f"{40 * 10**6}")
        whole.write_text(f"{90 * 10**6}")

    kernel.while_asleep = spend
    assert measure(10.0, kernel.meters()).watts == pytest.approx(9.0)


def test_sensors_of_the_board_are_averaged_and_graphics_cards_left_out(kernel: Kernel) -> None:
    kernel.zone("intel-rapl:0", "package-0", 0.0)
    first = kernel.sensor("hwmon0", "ina226", 4.0, "5V")
    kernel.sensor("hwmon1", "ina226", 1.0)
    kernel.sensor("hwmon2", "amdgpu", 90.0)
    kernel.while_asleep = lambda: (first.write_text(f"{6 * 10**6}"), None)[1]
    power = measure(1.0, kernel.meters())
    assert power.watts == pytest.approx((5.0 + 7.0) / 2)
    assert power.words == "hwmon ina226 5V, ina226 power1"


def test_the_pi_s_power_chip_by_its_rails(kernel: Kernel) -> None:
    kernel.sensor("hwmon0", "ina226", 4.0)
    kernel.pmic_says = PMIC
    power = measure(2.0, kernel.meters())
    assert power.watts == pytest.approx(0.1 * 3.7 + 0.2 * 3.3 + 1.5 * 0.8)
    assert "power chip" in power.words


@pytest.mark.parametrize("says", ["", 'error=1 error_msg="Command not registered"\n', "EXT5V_V volt(24)=5.1V\n"])
def test_a_chip_that_says_nothing_of_use_is_passed_over(kernel: Kernel, says: str) -> None:
    kernel.pmic_says = says
    kernel.sensor("hwmon0", "ina226", 4.0)
    assert measure(1.0, kernel.meters()).watts == pytest.approx(4.0)


def test_a_sensor_that_sleeps_or_is_for_root_says_so(kernel: Kernel) -> None:
    kernel.sensor("hwmon0", "ina226", 4.0).write_text("")
    zone = kernel.zone("intel-rapl:0", "package-0", 0.0)
    zone.unlink()
    zone.mkdir()
    power = measure(1.0, kernel.meters())
    assert power.watts is None
    assert "power1_input of ina226" in power.words
    assert "intel-rapl:0: Is a directory" in power.words


def test_one_that_stops_answering_gives_no_figure(kernel: Kernel) -> None:
    path = kernel.sensor("hwmon0", "ina226", 4.0)
    kernel.while_asleep = lambda: path.unlink(missing_ok=True)
    power = measure(3.0, kernel.meters())
    assert power.watts is None
    assert "it stopped answering" in power.words
    assert kernel.now == 3.0
