"""Cores and quotas, from files as kernels write them."""

from pathlib import Path

import pytest

from joules.machine import control_groups, processor
from joules.machine.machine_state import Cores

HYBRID_CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: 12th Gen Intel(R) Core(TM) i5-12600K
microcode\t: 0x35
flags\t\t: fpu vme sse4_2 avx2

processor\t: 1
model name\t: 12th Gen Intel(R) Core(TM) i5-12600K
microcode\t: 0x35
"""
ARM_CPUINFO = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nCPU part\t: 0xd0b\n"
V2_MOUNT = (
    "26 24 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot"
)
V1_MOUNTS = """31 23 0:28 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:13 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/cpuset rw,nosuid shared:14 - cgroup cgroup rw,cpuset
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def topology(root: Path, siblings: list[str], name: str = "core_cpus_list") -> None:
    for cpu, listed in enumerate(siblings):
        write(root, {f"sys/devices/system/cpu/cpu{cpu}/topology/{name}": f"{listed}\n"})


def test_lists_of_cpus_are_read_as_kernels_write_them() -> None:
    assert processor.listed_cpus("0-3,8\n") == {0, 1, 2, 3, 8}
    assert processor.listed_cpus("5") == {5}
    assert processor.listed_cpus("\n") == set()


def test_two_threads_of_one_core_count_once(tmp_path: Path) -> None:
    topology(tmp_path, ["0,4", "1,5", "2,6", "3,7"] * 2)
    assert processor.physical_cores_of(range(8), tmp_path) == 4
    assert processor.physical_cores_of({0, 4}, tmp_path) == 1
    assert processor.physical_cores_of({0, 1}, tmp_path) == 2
    assert processor.physical_cores_of({0, 4, 5}, tmp_path) == 2


def test_cores_of_two_packages_with_equal_numbers_are_two(tmp_path: Path) -> None:
    topology(tmp_path, ["0", "1"])
    for cpu in (0, 1):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        write(tmp_path, {f"{folder}/core_id": "0\n", f"{folder}/physical_package_id": f"{cpu}\n"})
    assert processor.physical_cores_of({0, 1}, tmp_path) == 2


def test_older_kernels_name_the_siblings_otherwise(tmp_path: Path) -> None:
    topology(tmp_path, ["0-1", "0-1"], "thread_siblings_list")
    assert processor.physical_cores_of({0, 1}, tmp_path) == 1


def test_physical_cores_are_not_known_where_one_cpu_does_not_show_them(tmp_path: Path) -> None:
    topology(tmp_path, ["0"])
    assert processor.physical_cores_of({0, 1}, tmp_path) is None
    assert processor.physical_cores_of({0}, tmp_path / "nothing") is None


def test_both_kinds_of_cores_of_a_hybrid_processor_are_counted(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"sys/devices/cpu_core/cpus": "0-11\n", "sys/devices/cpu_atom/cpus": "12-15\n"},
    )
    assert processor.kinds_of_cores(tmp_path) == (12, 4)


def test_a_processor_with_one_kind_of_cores_has_no_kinds(tmp_path: Path) -> None:
    write(tmp_path, {"sys/devices/cpu/type": "4\n"})
    assert processor.kinds_of_cores(tmp_path) == (None, None)


def test_name_and_microcode_are_read_where_they_are_shown(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": HYBRID_CPUINFO})
    assert processor.cpu_model(tmp_path) == "12th Gen Intel(R) Core(TM) i5-12600K"
    assert processor.microcode(tmp_path) == "0x35"
    write(tmp_path, {"proc/cpuinfo": ARM_CPUINFO})
    assert processor.microcode(tmp_path) is None
    assert processor.cpu_model(tmp_path)
    assert processor.microcode(tmp_path / "nothing") is None


def on_v2(root: Path, group: str, quotas: dict[str, str], mount: str = V2_MOUNT) -> float | None:
    write(root, {"proc/self/cgroup": f"0::{group}\n", "proc/self/mountinfo": f"{mount}\n"})
    write(root, {f"sys/fs/cgroup/{name}/cpu.max": f"{text}\n" for name, text in quotas.items()})
    return control_groups.quota_cores(root)


def test_a_machine_without_quotas_has_none(tmp_path: Path) -> None:
    assert control_groups.quota_cores(tmp_path) is None
    unlimited = {"user.slice": "max 100000", "user.slice/user-1000.slice": "max 100000"}
    assert on_v2(tmp_path, "/user.slice/user-1000.slice", unlimited) is None


def test_the_quota_of_the_group_itself_counts(tmp_path: Path) -> None:
    assert (
        on_v2(tmp_path, "/system.slice/job.service", {"system.slice/job.service": "150000 100000"})
        == 1.5
    )


def test_the_quota_of_an_ancestor_counts(tmp_path: Path) -> None:
    quotas = {"a": "200000 100000", "a/b": "max 100000", "a/b/c": "400000 100000"}
    assert on_v2(tmp_path, "/a/b/c", quotas) == 2.0


def test_the_quota_of_a_neighbour_does_not_count(tmp_path: Path) -> None:
    assert on_v2(tmp_path, "/a", {"a": "max 100000", "b": "50000 100000"}) is None


def test_a_container_with_its_own_name_space_sees_its_quota_at_the_top(tmp_path: Path) -> None:
    assert on_v2(tmp_path, "/", {".": "50000 100000"}) == 0.5


def test_a_group_that_lies_outside_the_name_space_has_the_quota_of_what_is_seen(
    tmp_path: Path,
) -> None:
    assert on_v2(tmp_path, "/../../other", {".": "50000 100000"}) == 0.5


def test_a_container_that_sees_a_part_of_the_host_s_tree_finds_its_own_group(
    tmp_path: Path,
) -> None:
    mount = V2_MOUNT.replace(" / /sys", " /docker/4f1c /sys")
    assert on_v2(tmp_path, "/docker/4f1c/inner", {"inner": "70000 100000"}, mount) == 0.7


def test_a_mount_whose_path_holds_white_space_is_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT.replace("/sys/fs/cgroup", r"/my\040groups") + "\n",
            "my groups/cpu.max": "50000 100000\n",
        },
    )
    assert control_groups.quota_cores(tmp_path) == 0.5


def on_v1(root: Path, group: str, quotas: dict[str, int]) -> float | None:
    own = f"11:cpuset:/elsewhere\n4:cpu,cpuacct:{group}\n1:name=systemd:/x\n"
    write(root, {"proc/self/cgroup": own, "proc/self/mountinfo": V1_MOUNTS})
    for name, quota in quotas.items():
        folder = f"sys/fs/cgroup/cpu,cpuacct/{name}"
        write(root, {f"{folder}/cpu.cfs_quota_us": f"{quota}\n"})
        write(root, {f"{folder}/cpu.cfs_period_us": "100000\n"})
    return control_groups.quota_cores(root)


def test_version_1_has_quotas_in_files_of_its_own(tmp_path: Path) -> None:
    assert on_v1(tmp_path, "/job", {".": -1, "job": 50000}) == 0.5


def test_version_1_s_ancestors_count(tmp_path: Path) -> None:
    assert on_v1(tmp_path, "/a/b", {".": -1, "a": 300000, "a/b": -1}) == 3.0


def test_on_a_machine_with_both_versions_the_smaller_quota_counts(tmp_path: Path) -> None:
    on_v1(tmp_path, "/job", {"job": 150000})
    both = V1_MOUNTS + V2_MOUNT.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ") + "\n"
    write(
        tmp_path, {"proc/self/mountinfo": both, "sys/fs/cgroup/unified/x/cpu.max": "90000 100000\n"}
    )
    with open(tmp_path / "proc/self/cgroup", "a", encoding="utf-8") as file:
        file.write("0::/x\n")
    assert control_groups.quota_cores(tmp_path) == 0.9


@pytest.mark.parametrize(("quota", "usable"), [(None, 4), (0.5, 1), (1.0, 1), (2.9, 2), (16.0, 4)])
def test_a_part_of_a_core_is_no_core_and_one_is_always_used(
    quota: float | None, usable: int
) -> None:
    cores = Cores(physical=8, logical=16, allowed=4, are_physical=True, quota=quota)
    assert cores.usable == usable
