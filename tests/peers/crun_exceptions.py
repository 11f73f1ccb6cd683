"""Cases of crun's suite that crun passes and Boxwright does not mean to: `file/case` to the reason."""

EXCEPTIONS: dict[str, str] = {
    "test_exec/exec_add_no_new_privileges": "wants exec to drop the container's noNewPrivileges, which would weaken it",
    "test_seccomp/seccomp-listener": "wants ociVersion 0.2.0 in the container process state, a version that never was",
    "test_start/start": "reads crun's own state file for its private field `external_descriptors`",
    "test_tty/test-detach-tty": "its configuration has a number among process.args, which is refused before the rest",
}
