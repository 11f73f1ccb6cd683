/* say MESSAGE…: send each to the socket that NOTIFY_SOCKET names, as sd_notify(3) does; \n is two letters in a word.
 * "wait" waits until a SIGUSR1 comes, "barrier" until the other end has dealt with all before it. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int fd;

static void barrier(void)
{
    int ends[2];
    if (pipe(ends) < 0)
        exit(4);
    char word[] = "BARRIER=1";
    struct iovec data = { word, strlen(word) };
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control.space };
    control.header = (struct cmsghdr) { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET,
                                        .cmsg_type = SCM_RIGHTS };
    memcpy(CMSG_DATA(&control.header), &ends[1], sizeof(int));
    if (sendmsg(fd, &message, 0) < 0)
        exit(5);
    close(ends[1]);
    if (read(ends[0], word, 1) != 0)
        exit(6);
    close(ends[0]);
}

static void say(char *word)
{
    for (char *at; (at = strstr(word, "\\n"));) {
        *at = '\n';
        memmove(at + 1, at + 2, strlen(at + 2) + 1);
    }
    if (send(fd, word, strlen(word), 0) < 0)
        exit(3);
}

int main(int count, char **words)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (!path || strlen(path) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, path);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *) &address, sizeof address) < 0) {
        perror(path);
        return 3;
    }
    for (int at = 1; at < count; at++) {
        int got;
        if (strcmp(words[at], "wait") == 0)
            sigwait(&set, &got);
        else if (strcmp(words[at], "barrier") == 0)
            barrier();
        else
            say(words[at]);
    }
    return 0;
}
