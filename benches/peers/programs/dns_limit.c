/* A responder that does no DNS work: what remains is what this machine and the load can carry. As it answers everything, it
 * plays the public upstream too.
 *
 * dns_limit PORT: on 127.0.0.1, over UDP and TCP. A has two records, AAAA and HTTPS one, everything else none.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, MESSAGE = 512, GROWTH = 64, HEADER = 12, EVENTS = 64, INPUT = 16384 };

/* Each record is named by a pointer to the question and lives an hour. */
#define RECORD(type, length) 0xc0, HEADER, 0, type, 0, 1, 0, 0, 0x0e, 0x10, 0, length
static const uint8_t addresses[] = {RECORD(1, 4), 198, 51, 100, 7, RECORD(1, 4), 198, 51, 100, 8};
static const uint8_t address6[] = {RECORD(28, 16), 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
static const uint8_t https[] = {RECORD(65, 10), 0, 1, 0, 0, 1, 0, 3, 2, 'h', '2'};
/* Whoever speaks EDNS may take its absence for a fault, and ask again without. */
static const uint8_t opt[] = {0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0};

static int port;

static void quit(const char *what) {
    perror(what);
    exit(1);
}

/* Turns a query of this length into its reply; gives the new length, 0 for what is no query. */
static size_t answer(uint8_t *message, size_t length) {
    size_t end = HEADER;
    while (end < length && message[end])
        end += message[end] + 1u;
    end += 5;
    if (end > length || message[2] & 0x80)
        return 0;
    const uint8_t *records = NULL;
    size_t size = 0;
    int count = 0, edns = message[11];
    switch (message[end - 4] << 8 | message[end - 3]) {
    case 1: records = addresses, size = sizeof addresses, count = 2; break;
    case 28: records = address6, size = sizeof address6, count = 1; break;
    case 65: records = https, size = sizeof https, count = 1; break;
    }
    message[2] = 0x80 | (message[2] & 1);
    message[3] = 0x80;
    message[7] = count;
    message[11] = edns ? 1 : 0;
    if (size)
        memcpy(message + end, records, size);
    end += size;
    if (edns) {
        memcpy(message + end, opt, sizeof opt);
        end += sizeof opt;
    }
    return end;
}

static int bound(int type) {
    struct sockaddr_in own = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, receive = 1 << 20, descriptor = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receive, sizeof receive);
    if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&own, sizeof own))
        quit("bind");
    return descriptor;
}

static void serve_udp(int descriptor) {
    static uint8_t messages[BATCH][MESSAGE + GROWTH];
    static struct sockaddr_in senders[BATCH];
    static struct iovec parts[BATCH];
    static struct mmsghdr batch[BATCH];
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){messages[i], MESSAGE};
            batch[i].msg_hdr = (struct msghdr){.msg_name = &senders[i], .msg_namelen = sizeof senders[i],
                                               .msg_iov = &parts[i], .msg_iovlen = 1};
        }
        int count = recvmmsg(descriptor, batch, BATCH, MSG_WAITFORONE, NULL), sent = 0;
        for (int i = 0; i < count; i++)
            parts[i].iov_len = answer(messages[i], batch[i].msg_len);
        /* What is no query gets an empty datagram, what cannot be sent is left out. */
        while (sent < count) {
            int more = sendmmsg(descriptor, batch + sent, count - sent, 0);
            sent += more > 0 ? more : 1;
        }
    }
}

struct connection {
    int descriptor;
    size_t kept;
    uint8_t input[INPUT];
};

/* Answers every whole query that has come; 0 once the connection is of no use any more. */
static int serve_connection(struct connection *connection) {
    static uint8_t output[8 * INPUT];
    uint8_t *end = connection->input + connection->kept;
    ssize_t more = recv(connection->descriptor, end, INPUT - connection->kept, MSG_DONTWAIT);
    if (more <= 0)
        return more < 0 && errno == EAGAIN;
    connection->kept += more;
    size_t read = 0, written = 0;
    while (connection->kept - read >= 2) {
        const uint8_t *next = connection->input + read;
        size_t length = next[0] << 8 | next[1];
        if (length > MESSAGE)
            return 0;
        if (connection->kept - read - 2 < length)
            break;
        memcpy(output + written + 2, next + 2, length);
        size_t size = answer(output + written + 2, length);
        output[written] = size >> 8;
        output[written + 1] = size;
        written += size ? size + 2 : 0;
        read += length + 2;
    }
    connection->kept -= read;
    memmove(connection->input, connection->input + read, connection->kept);
    return !written || send(connection->descriptor, output, written, MSG_NOSIGNAL) == (ssize_t)written;
}

static void *serve_tcp(void *unused) {
    int listener = bound(SOCK_STREAM), on = 1, poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    if (listen(listener, 1024) || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event))
        quit("listen");
    for (;;) {
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection) {
                int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                connection = descriptor < 0 ? NULL : calloc(1, sizeof *connection);
                if (!connection)
                    continue;
                connection->descriptor = descriptor;
                setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                event.data.ptr = connection;
                epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event);
            } else if (!serve_connection(connection)) {
                close(connection->descriptor);
                free(connection);
            }
        }
    }
    return unused;
}

int main(int count, char **words) {
    if (count != 2) {
        fputs("usage: dns_limit PORT\n", stderr);
        return 64;
    }
    port = atoi(words[1]);
    int udp = bound(SOCK_DGRAM);
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve_tcp, NULL))
        quit("pthread_create");
    serve_udp(udp);
}
