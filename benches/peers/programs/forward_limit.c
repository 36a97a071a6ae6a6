/* The forwarder that does no work, and the far ends of connections without TLS. One thread, loopback only.
 *
 *   forward_limit relay PORT ID=PORT...   connects to the first port whose id the first bytes hold, and copies both
 *                                         ways; a CONNECT is answered, and its tunnel copied
 *   forward_limit sink PORT BYTES [stay]  answers a connection's first bytes with so many, then closes it or stays
 *
 * What the relay reaches is what the load, the far end and the kernel leave to any forwarder. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER 65536
#define MOST_ROUTES 8

/* One socket. What it has sent and its other end has not taken yet is in `bytes`. */
struct end {
    int fd, ended, passed_on, closed;
    uint32_t armed;
    struct end *other, *next;
    size_t start, filled;
    long left;
    char *bytes;
};

static struct route {
    char id[32];
    int port;
} routes[MOST_ROUTES];
static int poller, route_count, is_relay, stays;
static long answer;
static char zeros[1 << 20];
/* Closed in this batch of events: others in it may still point there. */
static struct end *closed_ends;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static struct end *add(int fd, uint32_t events) {
    struct end *end = calloc(1, sizeof *end);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *end = (struct end){.fd = fd, .armed = events, .left = -1, .bytes = is_relay ? malloc(BUFFER) : NULL};
    struct epoll_event event = {.events = events, .data.ptr = end};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    return end;
}

static void arm(struct end *end, uint32_t events) {
    if (end->armed == events) return;
    struct epoll_event event = {.events = events, .data.ptr = end};
    epoll_ctl(poller, EPOLL_CTL_MOD, end->fd, &event);
    end->armed = events;
}

static void close_end(struct end *end) {
    if (!end || end->closed) return;
    end->closed = 1;
    close(end->fd);
    end->next = closed_ends;
    closed_ends = end;
}

static void free_closed(void) {
    while (closed_ends) {
        struct end *end = closed_ends;
        closed_ends = end->next;
        free(end->bytes);
        free(end);
    }
}

/* Hands on what this end has sent, and that it has ended. 0 where the other end is gone. */
static int push(struct end *from) {
    while (from->filled) {
        ssize_t sent = send(from->other->fd, from->bytes + from->start, from->filled, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN;
        from->start += sent;
        from->filled -= sent;
    }
    from->start = 0;
    if (from->ended && !from->passed_on) {
        shutdown(from->other->fd, SHUT_WR);
        from->passed_on = 1;
    }
    return 1;
}

/* Takes what this end sends, once the last of it is gone. 0 where this end is gone. */
static int pull(struct end *from) {
    if (from->filled || from->ended) return 1;
    ssize_t got = recv(from->fd, from->bytes, BUFFER, 0);
    if (got < 0) return errno == EAGAIN;
    from->filled = got;
    from->ended = got == 0;
    return push(from);
}

static void arm_for_copy(struct end *end) {
    arm(end, (end->filled || end->ended ? 0 : EPOLLIN) | (end->other->filled ? EPOLLOUT : 0));
}

/* The first bytes say where to; both a ClientHello and a CONNECT come in one piece here. */
static void choose(struct end *end) {
    static const char established[] = "HTTP/1.1 200 OK\r\n\r\n";
    ssize_t got = recv(end->fd, end->bytes, BUFFER, 0);
    int port = 0;
    for (int i = 0; got > 0 && !port && i < route_count; i++) {
        if (memmem(end->bytes, got, routes[i].id, strlen(routes[i].id))) port = routes[i].port;
    }
    if (!port) {
        close_end(end);
        return;
    }
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    connect(fd, (struct sockaddr *)&address, sizeof address);
    end->other = add(fd, EPOLLIN);
    end->other->other = end;
    if (!memcmp(end->bytes, "CONNECT ", 8)) {
        if (send(end->fd, established, sizeof established - 1, MSG_NOSIGNAL) < 0) end->ended = 1;
    } else {
        end->filled = got;
        push(end);
    }
    arm_for_copy(end);
    arm_for_copy(end->other);
}

static void relay(struct end *end, uint32_t events) {
    if (!end->other) {
        choose(end);
        return;
    }
    struct end *other = end->other;
    int whole = !(events & EPOLLERR) && (!(events & EPOLLOUT) || push(other)) &&
                (!(events & (EPOLLIN | EPOLLHUP)) || pull(end));
    if (!whole || (end->passed_on && other->passed_on)) {
        close_end(end);
        close_end(other);
        return;
    }
    arm_for_copy(end);
    arm_for_copy(other);
}

static void sink(struct end *end, uint32_t events) {
    if (end->left <= 0) {
        static char ignored[BUFFER];
        if ((events & EPOLLERR) || recv(end->fd, ignored, sizeof ignored, 0) <= 0) {
            close_end(end);
            return;
        }
        end->left = answer;
    }
    while (end->left > 0) {
        size_t size = end->left < (long)sizeof zeros ? (size_t)end->left : sizeof zeros;
        ssize_t sent = send(end->fd, zeros, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            arm(end, EPOLLOUT);
            return;
        }
        if (sent < 0) {
            close_end(end);
            return;
        }
        end->left -= sent;
    }
    if (stays) arm(end, EPOLLIN);
    else close_end(end);
}

static int listener(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = loopback(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) die("listen");
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 4) return 64;
    is_relay = !strcmp(argv[1], "relay");
    if (is_relay) {
        for (int i = 3; i < argc && route_count < MOST_ROUTES; i++) {
            struct route *route = &routes[route_count++];
            if (sscanf(argv[i], "%31[^=]=%d", route->id, &route->port) != 2) return 64;
        }
    } else {
        answer = atol(argv[3]);
        stays = argc > 4 && !strcmp(argv[4], "stay");
    }
    poller = epoll_create1(0);
    int accepting = listener(atoi(argv[2])), fd;
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < count; i++) {
            struct end *end = events[i].data.ptr;
            if (!end) {
                while ((fd = accept4(accepting, NULL, NULL, SOCK_NONBLOCK)) >= 0) add(fd, EPOLLIN);
            } else if (!end->closed) {
                if (is_relay) relay(end, events[i].events);
                else sink(end, events[i].events);
            }
        }
        free_closed();
    }
}
