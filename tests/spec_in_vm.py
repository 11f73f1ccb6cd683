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
    "test_a_mount_takes_the_mapping_of_the_user_namespace": ("ridmap",),
    "test_mappings_of_a_mount": ("ridmap",),
    "test_masked_directory_is_empty_and_read_only": ("/proc/sys-False",),
    "test_masked_file_reads_empty": ("/proc/cpuinfo-False", "/etc/passwd-True"),
    "test_memory_policy": ("policy3",),
    "test_no_capabilities": ("1000-None",),
    "test_operators_on_arguments": ("SCMP_CMP_MASKED_EQ",),
    "test_option_of_the_filesystem": ("dirsync",),
    "test_oom_score_adj_is_set": ("500",),
    "test_personality": ("LINUX32",),
    "test_propagation_of_the_root": ("rslave",),
    "test_rlimits_are_exact": ("RLIMIT_NOFILE", "RLIMIT_RTPRIO"),
    "test_scheduler": ("scheduler2",),
    "test_sysctl": ("net.core.somaxconn", "kernel.msgmax"),
    "test_the_device_list_is_applied_in_order": ("rules5",),
    "test_the_program_is_found_as_execvp_does": ("/nowhere:/bin", "passwd-/etc"),
    "test_the_program_starts_in_cwd": ("/tmp",),
    "test_the_user_of_the_program": ("user2",),
    "test_umask": ("-63",),
    "test_umask_is_the_caller_s_where_none_is_set": ("-23",),
    "test_what_cannot_be_applied_creates_nothing": ("net.no.such.key", "nosuchoption", "/no/such/program"),
    "test_what_is_killed_is_the_thread_or_the_process": ("KILL_PROCESS",),
    "test_what_cannot_be_mounted_is_an_error_of_its_line": ("mount0", "mount2", "mount3"),
}

# what another test shows as well, at the price of a machine
SHOWN = {
    "test_a_bind_can_take_back_what_its_source_has",
    "test_a_hook_within_its_time_is_not_disturbed",
    "test_all_conditions_of_a_rule_have_to_hold",
    "test_architectures",
    "test_flags",
    "test_infinity_is_a_limit",
    "test_option_that_is_not_shown_is_taken",
    "test_recursive_attributes_of_a_new_filesystem",
    "test_root_gets_what_the_bounding_set_lets_through",
    "test_several_rlimits_and_those_that_are_not_named",
    "test_the_configuration_may_be_formatted_in_any_way",
    "test_the_last_of_opposites_counts",
    "test_the_last_of_opposites_of_the_filesystem_counts",
    "test_wait_killable_goes_with_notify",
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
        "test_a_bound_namespace_file_is_joined",
    ),
    "clocks of the host": ("test_time_offsets",),
    "id maps, which the machine has on the host": ("test_the_mappings_of_a_user_namespace",),
    "groups of the host, whose limits are the machine's, or of version 1": (
        "test_a_limit_is_in_force_from_create_on",
        "test_a_limit_of_no_processes_is_a_limit",
        "test_every_process_of_a_container_is_in_its_group",
        "test_a_cgroup_mount_shows_the_container_s_groups",
    ),
    "processors and capabilities that the host has or lacks": (
        "test_exec_cpu_affinity_is_for_exec_alone",
        "test_without_a_final_affinity_the_initial_one_stays",
        "test_capabilities_that_cannot_be_granted_are_warned_of",
    ),
    "what a process has of its caller on the same kernel": (
        "test_oom_score_adj_is_not_touched_where_it_is_not_set",
        "test_standard_descriptors_that_are_closed_are_dev_null",
        "test_names_that_are_not_set_stay",
    ),
    "names of the host's own kernel and filesystems": (
        "test_the_host_s_mounts_are_gone",
        "test_the_type_of_a_bind_is_a_dummy",
    ),
    "the pid of what is being made, for which the standard does not ask": (
        "test_a_container_is_creating_until_it_is_made",
        "test_what_a_dead_maker_left_is_stopped_and_can_be_deleted",
    ),
    "every word of a list in a machine of its own": (
        "test_every_version_between_is_taken_and_no_other",
        "test_every_word_of_seccomp_is_taken",
        "test_every_mount_option_works",
        "test_every_namespace_works",
    ),
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
    "root.path": ("test_a_root_that_is_a_mount_with_mounts_below_comes_whole",),
    "mounts[].source": ("test_special_files_can_be_bound",),
    "mounts[].options": (
        "test_recursive_attribute",
        "test_the_last_of_recursive_opposites_counts",
        "test_a_plain_attribute_is_for_the_one_mount",
        "test_bind_brings_one_mount_and_rbind_the_tree",
        "test_propagation_of_a_bind",
    ),
    "linux.resources.memory.disableOOMKiller": ("test_the_killer_can_be_disabled",),
    "process.apparmorProfile": (
        "test_a_label_that_cannot_be_applied_is_an_error",
        "test_a_profile_without_apparmor_is_an_error_of_create",
    ),
    "linux.namespaces": (
        "test_a_namespace_of_another_container_is_joined_by_its_path",
        "test_a_mount_namespace_is_joined_by_its_path",
        "test_every_namespace_of_a_user_namespace_is_joined",
        "test_a_name_is_set_in_a_namespace_that_is_joined",
        "test_a_path_of_another_type_is_an_error",
    ),
    "linux.seccomp": (
        "test_the_agent_gets_the_state_and_answers_for_the_kernel",
        "test_a_run_with_an_agent",
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
            if name in SHOWN:
                continue
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
