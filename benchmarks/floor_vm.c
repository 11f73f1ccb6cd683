/* The least that a guest can be: the kernel starts this, and it ends the machine. */
#include <sys/reboot.h>

int main(void)
{
    return reboot(RB_AUTOBOOT);
}
