/* For tests only, never in a built helper: make -DFAULT_DIR="\"…\"" and a step fails, or waits until whoever tests has
 * killed the runtime.
 *
 * FAULT_DIR/step holds `ACTOR INDEX ERRNO` in decimal. With an errno the step is not performed and fails by it. With 0
 * a byte is written to the fifo FAULT_DIR/reached, and the step goes on once a byte came by FAULT_DIR/go.
 */
#pragma once

#include "actor.h"

static struct {
    int actor, index, error, reached, go;
} fault = {.actor = -1};

static int fault_number(const char **text)
{
    int number = 0;
    while (**text >= '0' && **text <= '9')
        number = number * 10 + (*(*text)++ - '0');
    while (**text == ' ' || **text == '\n')
        (*text)++;
    return number;
}

static void fault_open(const struct actor *me)
{
    char text[64] = "";
    const char *at = text;
    _cleanup_close_ int step = sys_openat(AT_FDCWD, FAULT_DIR "/step", O_RDONLY);
    if (step < 0 || sys(read, step, text, sizeof text - 1) <= 0)
        return;
    fault.actor = fault_number(&at);
    fault.index = fault_number(&at);
    fault.error = fault_number(&at);
    fault.reached = keep_off_program(me, sys_openat(AT_FDCWD, FAULT_DIR "/reached", O_RDWR));
    fault.go = keep_off_program(me, sys_openat(AT_FDCWD, FAULT_DIR "/go", O_RDWR));
}

/* 0: perform the step. */
static int fault_before(const struct actor *me)
{
    char byte = 'x';
    if ((int)me->self != fault.actor || (int)me->index != fault.index)
        return 0;
    (void)sys(write, fault.reached, &byte, 1);
    if (fault.error == 0)
        (void)sys(read, fault.go, &byte, 1);
    return -fault.error;
}
