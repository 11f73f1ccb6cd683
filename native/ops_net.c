/* Requests to the kernel's routing, as rtnetlink(7) defines them. What they say is Python's. */
#include "report.h"

enum { GET_INDEX = 0x8933, DEVICE_NAME_BYTES = 16, REQUEST_BYTES = 4096, ANSWER_BYTES = 8192 };
enum { NETLINK_ROUTE = 0, SOL_NETLINK_ = 270, EXT_ACK = 11, MESSAGE_ERROR = 2, MESSAGE_ATTRIBUTE = 1 };
enum { FLAG_CAPPED = 0x100, FLAG_ATTRIBUTES = 0x200 };

struct netlink_address {
    uint16_t family;
    uint16_t pad;
    uint32_t port;
    uint32_t groups;
};

struct message {
    uint32_t length;
    uint16_t type;
    uint16_t flags;
    uint32_t sequence;
    uint32_t port;
};

struct attribute {
    uint16_t length;
    uint16_t type;
};

static size_t aligned(size_t length)
{
    return (length + 3) & ~(size_t)3;
}

/* The index of a network device, or -errno. */
static int device_index(int socket, struct text name)
{
    struct {
        char name[DEVICE_NAME_BYTES];
        int32_t index;
        char rest[20];
    } request = {0};
    if (name.length >= DEVICE_NAME_BYTES)
        return -ENODEV;
    memcpy(request.name, name.data, name.length);
    long rc = sys(ioctl, socket, GET_INDEX, &request);
    return rc < 0 ? (int)rc : request.index;
}

/* Keep the kernel's own words about a refusal, where it gives any: `length` bytes at `body` follow the answer's head. */
static void keep_words(struct actor *me, uint16_t flags, const uint8_t *body, size_t length)
{
    struct message asked;
    size_t at = sizeof(int32_t) + sizeof asked;
    if (!(flags & FLAG_ATTRIBUTES) || length < at)
        return;
    memcpy(&asked, body + sizeof(int32_t), sizeof asked);
    if (!(flags & FLAG_CAPPED)) /* the request's body stands there too */
        at = sizeof(int32_t) + aligned(asked.length);
    struct attribute head;
    while (at <= length && length - at >= sizeof head) {
        memcpy(&head, body + at, sizeof head);
        if (head.length < sizeof head || head.length > length - at)
            return;
        if (head.type == MESSAGE_ATTRIBUTE) {
            size_t words = head.length - sizeof head;
            const char *text = (const char *)body + at + sizeof head;
            failure_add(&me->failure, text, strnlen(text, words));
            return;
        }
        at += aligned(head.length);
    }
}

/* The kernel answers each request before send(2) returns, so the answer is there already: 0 or -errno. */
static int take_answer(struct actor *me, int socket)
{
    static uint8_t answer[ANSWER_BYTES];
    struct message head;
    int32_t error;
    long got = sys(recvfrom, socket, answer, sizeof answer, 0, NULL, NULL);
    if (got < 0)
        return (int)got;
    if ((size_t)got < sizeof head + sizeof error)
        return -EPROTO;
    memcpy(&head, answer, sizeof head);
    memcpy(&error, answer + sizeof head, sizeof error);
    if (head.type != MESSAGE_ERROR)
        return -EPROTO;
    if (error)
        keep_words(me, head.flags, answer + sizeof head, (size_t)got - sizeof head);
    return error;
}

int do_Netlink(struct actor *me, const struct Netlink *op)
{
    static uint8_t request[REQUEST_BYTES];
    struct netlink_address kernel = {.family = AF_NETLINK};
    const int on = 1;
    if (op->request.length < sizeof(struct message) || op->request.length > sizeof request)
        return -EMSGSIZE;
    _cleanup_close_ int socket = (int)sys(socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (socket < 0)
        return socket;
    memcpy(request, op->request.data, op->request.length);
    if (op->at >= 0) {
        if ((uint64_t)op->at > op->request.length - sizeof(int32_t))
            return -EINVAL;
        int32_t index = device_index(socket, op->device);
        if (index < 0)
            return index;
        memcpy(request + op->at, &index, sizeof index);
    }
    (void)sys(setsockopt, socket, SOL_NETLINK_, EXT_ACK, &on, sizeof on);
    long sent = sys(sendto, socket, request, op->request.length, 0, &kernel, sizeof kernel);
    return sent < 0 ? (int)sent : take_answer(me, socket);
}
