"""Which of the standard's tests are run in a virtual machine too, and why the others are not.

A test that takes `boxes` has a variant `vm`, which differs by `--isolation vm` alone. A machine takes a second where a
box takes milliseconds, so that of a parametrised test one representative is run: the first, or those of CHOSEN.
"""

import pytest

from boxwright.boxes import capabilities

VM = "vm"

# parts of the ids of what stands for all of a parametrised test, where the first is not the one to choose
CHOSEN: dict[str, tuple[str, ...]] = {
    "test_annotations_come_with_the_state": ("annotations1",),
    "test_attribute_of_a_bind": ("nosymfollow",),
    "test_attribute_of_a_new_filesystem": ("noatime",),
    "test_default_devices": ("random-1:8-False", "tty-5:0-True"),
    "test_kill_delivers_that_signal_to_the_container_process": ("TERM-15",),
    "test_masked_directory_is_empty_and_read_only": ("/proc/sys-False",),
    "test_masked_file_reads_empty": ("/proc/cpuinfo-False", "/etc/passwd-True"),
    "test_memory_policy": ("policy3",),
    "test_no_capabilities": ("1000-None",),
    "test_operators_on_arguments": ("SCMP_CMP_MASKED_EQ",),
    "test_option_of_the_filesystem": ("dirsync",),
    "test_oom_score_adj_is_set": ("500",),
    "test_personality": ("LINUX32",),
    "test_propagation_of_a_bind": ("rshared",),
    "test_propagation_of_the_root": ("rslave",),
    "test_recursive_attribute": ("noexec",),
    "test_rlimits_are_exact": ("RLIMIT_NOFILE", "RLIMIT_RTPRIO"),
    "test_scheduler": ("scheduler2",),
    "test_sysctl": ("net.core.somaxconn", "kernel.msgmax"),
    "test_the_device_list_is_applied_in_order": ("rules5",),
    "test_the_program_is_found_as_execvp_does": ("/nowhere:/bin", "passwd-/etc"),
    "test_the_program_starts_in_cwd": ("/tmp",),
    "test_the_user_of_the_program": ("user2",),
    "test_umask": ("-63",),
    "test_what_cannot_be_applied_creates_nothing": ("net.no.such.key", "nosuchoption", "/no/such/program"),
    "test_what_is_killed_is_the_thread_or_the_process": ("KILL_PROCESS",),
    "test_what_cannot_be_mounted_is_an_error_of_its_line": ("mount0", "mount2", "mount3"),
}

# what the test looks at is not the guest's: by the name of that, tests, or files of them
BESIDE: dict[str, tuple[str, ...]] = {
    "/proc of the container's process, which is the guest's": (
        "test_hooks_run_in_their_namespaces",
        "test_hooks_of_create_see_the_mounts_and_come_before_the_pivot",
        "test_start_container_hooks_come_before_the_program_and_poststart_after",
        "test_the_user_in_a_user_namespace_is_the_container_s",
        "test_mounts_propagate_as_asked",
        "test_nothing_propagates_to_the_host_unasked",
        "test_a_slave_root_follows_the_host_and_a_private_one_does_not",
        "test_a_namespace_without_a_path_is_new",
        "test_a_namespace_that_is_not_listed_is_the_runtime_s",
        "test_no_namespaces_at_all",
        "test_exec_enters_every_namespace",
        "test_create_makes_all_but_runs_nothing",
        "test_hooks_of_the_runtime_can_furnish_the_network",
    ),
    "clocks of the host": ("test_time_offsets",),
    "other runtimes": ("test_differential.py",),
    "what engines read of the host's processes": ("test_command_contract.py",),
    "descriptors of the caller, which are no other kernel's": (
        "test_preserved_descriptors_are_passed",
        "test_socket_activation",
    ),
}

# the box does not honour the property, or not wholly (boxwright.boxes.capabilities); what the test asks of it is refused
REFUSED: dict[str, tuple[str, ...]] = {
    "hooks.createContainer": (
        "test_hooks_run_in_their_order",
        "test_create_container_hooks_may_write_to_a_root_that_becomes_read_only",
        "test_create_container_hooks_can_mount_for_the_container",
        "test_hooks_of_a_user_namespace_run_in_it",
        "test_a_program_runs_though_its_maker_has_not_heard_of_it",
        "test_every_hook_works",
        "test_readonly_paths_can_be_read_and_not_written",
    ),
    "mounts[].options.idmap": (
        "test_mappings_of_a_mount",
        "test_mappings_are_used_without_the_option_too",
        "test_a_mount_takes_the_mapping_of_the_user_namespace",
        "test_mappings_of_a_mount_win_over_those_of_the_user_namespace",
        "test_every_mount_option_works",
    ),
    "process.apparmorProfile": (
        "test_a_label_that_cannot_be_applied_is_an_error",
        "test_a_profile_without_apparmor_is_an_error_of_create",
    ),
    "linux.namespaces": (
        "test_a_namespace_of_another_container_is_joined_by_its_path",
        "test_a_mount_namespace_is_joined_by_its_path",
        "test_every_namespace_of_a_user_namespace_is_joined",
        "test_a_name_is_set_in_a_namespace_that_is_joined",
    ),
    "linux.seccomp": (
        "test_the_agent_gets_the_state_and_answers_for_the_kernel",
        "test_a_run_with_an_agent",
        "test_wait_killable_goes_with_notify",
    ),
}


def reasons() -> dict[str, str]:
    """Why a test does not apply to the vm box, by its name."""
    found = {test: f"looks at {what}" for what, tests in BESIDE.items() for test in tests}
    for prop, tests in REFUSED.items():
        row = capabilities.row_of(prop)
        assert row is not None, prop
        support = row.of(VM)
        assert support.level in {capabilities.UNSUPPORTED, capabilities.PARTIAL}, prop
        found |= dict.fromkeys(tests, f"{prop}: {support.text}")
    return found


def is_variant(item: pytest.Item) -> bool:
    """Whether it runs in a machine."""
    return isinstance(item, pytest.Function) and _isolation(item) == VM


def choose(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests without the variants that others stand for; those that do not apply are skipped by name."""
    why, chosen, seen = reasons(), [], set()
    for item in items:
        if is_variant(item):
            name = item.originalname  # type: ignore[attr-defined]
            whole = (item.path, name)
            if reason := why.get(name) or why.get(item.path.name):
                item.add_marker(pytest.mark.skip(reason=f"vm: {reason}"))
            elif wanted := CHOSEN.get(name):
                if not _has_id(item, wanted):
                    continue
                seen.discard(whole)
            if whole in seen:
                continue
            seen.add(whole)
        chosen.append(item)
    return chosen


def _isolation(item: pytest.Function) -> object:
    return item.callspec.params.get("isolation") if hasattr(item, "callspec") else None


def _has_id(item: pytest.Item, wanted: tuple[str, ...]) -> bool:
    return any(one in item.name for one in wanted)
