/* The load for forwarders. One thread, loopback only; it prints one line of JSON.
 *
 *   forward_load KIND PORT HOST CONNECTIONS SECONDS [target=HOST:PORT] [path=PATH] [rate=N] [bytes=N]
 *
 *   requests      GET over TLS connections that are kept; with a rate so many a second whether or not answers come, and
 *                 the time of each counts from when it was due
 *   connections   a TLS connection for each GET, in full: no session is resumed
 *   raw           a connection for each ClientHello, which an end without TLS answers with so many bytes
 *   hold          opens so many connections as raw does and keeps them; prints how many there are, and again when its
 *                 input ends
 *
 * With a target each connection begins with a CONNECT to it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define MOST_TIMES (1 << 23)
#define MOST_FAILURES 20000
/* Dialled at once by `hold`: more would only wait for the queue of the listener. */
#define AT_ONCE 100

enum state { CONNECTING, TUNNEL, RAW, HANDSHAKE, IDLE, REQUEST, HEAD, BODY, ENDING, HELD };

struct connection {
    int fd;
    enum state state;
    uint32_t armed;
    SSL *tls;
    uint64_t began;
    long missing;
    size_t filled;
    char head[4096];
};

static enum { REQUESTS, CONNECTIONS, HOLDS, RAWS } kind;
static int poller, port, count, opened, held, idle_count, running;
static long failures, wanted_bytes, rate;
static uint64_t octets, end_of_time, done_count, times[MOST_TIMES];
static struct connection *connections, **idle;
static const char *host;
static char request[1024], connect_head[512], hello[4096], scratch[1 << 18];
static size_t request_size, connect_size, hello_size;
static SSL_CTX *context;

static const struct timespec at_most = {.tv_nsec = SECOND / 100};

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * SECOND + at.tv_nsec;
}

static void arm(struct connection *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (c->armed != events) epoll_ctl(poller, c->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event);
    c->armed = events;
}

static struct sockaddr_in loopback(int host, int at) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(at)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + host);
    return address;
}

/* From one that no forwarder dials from: the same port of the same address could be its own as well, and Sidegate
 * would take the connection for one of its own that came back. */
static void dial(struct connection *c) {
    struct sockaddr_in from = loopback(1, 0), address = loopback(0, port);
    int on = 1;
    *c = (struct connection){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .began = now()};
    if (c->fd < 0) {
        perror("socket");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    bind(c->fd, (struct sockaddr *)&from, sizeof from);
    /* What is wrong with it shows in CONNECTING. */
    connect(c->fd, (struct sockaddr *)&address, sizeof address);
    arm(c, EPOLLOUT);
}

static void hang_up(struct connection *c) {
    SSL_free(c->tls);
    c->tls = NULL;
    /* What is left of an error would be taken for the next connection's. */
    ERR_clear_error();
    close(c->fd);
}

static int fail(struct connection *c) {
    if (++failures > MOST_FAILURES) {
        fprintf(stderr, "more than %d failures, the last in state %d\n", MOST_FAILURES, c->state);
        exit(1);
    }
    hang_up(c);
    dial(c);
    return 0;
}

static void answered(struct connection *c) {
    uint64_t at = now();
    if (at > end_of_time || done_count == MOST_TIMES) return;
    times[done_count++] = at - c->began;
}

/* The TLS library waits for the socket, or the connection is over. */
static int blocked(struct connection *c, int result) {
    int error = SSL_get_error(c->tls, result);
    if (error == SSL_ERROR_WANT_READ) arm(c, EPOLLIN);
    else if (error == SSL_ERROR_WANT_WRITE) arm(c, EPOLLOUT);
    else return fail(c);
    return 0;
}

/* Between requests: the next one at once, or when it is due. */
static int rest(struct connection *c) {
    if (running && !rate) {
        c->began = now();
        c->state = REQUEST;
        return 1;
    }
    c->state = IDLE;
    idle[idle_count++] = c;
    arm(c, EPOLLIN);
    return 0;
}

static int write_all(struct connection *c, const char *bytes, size_t size, enum state next) {
    if (send(c->fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) return fail(c);
    c->state = next;
    c->missing = wanted_bytes;
    arm(c, EPOLLIN);
    return 0;
}

static int connected(struct connection *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) return fail(c);
    if (connect_size) return write_all(c, connect_head, connect_size, TUNNEL);
    if (kind >= HOLDS) return write_all(c, hello, hello_size, RAW);
    c->state = HANDSHAKE;
    return 1;
}

/* Nothing follows the head, as the far end waits for the ClientHello. */
static int tunnel(struct connection *c) {
    ssize_t got = recv(c->fd, c->head + c->filled, sizeof c->head - 1 - c->filled, 0);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) return fail(c);
    c->filled += got;
    if (!strstr(c->head, "\r\n\r\n")) return 1;
    if (strncmp(c->head + 8, " 200", 4)) return fail(c);
    c->filled = 0;
    if (kind >= HOLDS) return write_all(c, hello, hello_size, RAW);
    c->state = HANDSHAKE;
    return 1;
}

static int raw(struct connection *c) {
    ssize_t got = recv(c->fd, scratch, sizeof scratch, 0);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got > 0) {
        c->missing -= got;
        octets += got;
    }
    if (kind == HOLDS && c->missing == 0) {
        c->state = HELD;
        held++;
        if (opened < count) dial(&connections[opened++]);
        return 0;
    }
    if (got > 0) return 1;
    if (c->missing) return fail(c);
    answered(c);
    hang_up(c);
    dial(c);
    return 0;
}

static int handshake(struct connection *c) {
    if (!c->tls) {
        c->tls = SSL_new(context);
        SSL_set_fd(c->tls, c->fd);
        SSL_set_tlsext_host_name(c->tls, host);
    }
    int result = SSL_connect(c->tls);
    if (result != 1) return blocked(c, result);
    if (kind == REQUESTS) return rest(c);
    c->state = REQUEST;
    return 1;
}

/* Kept connections say something between requests only to end, or for the TLS library. */
static int idling(struct connection *c) {
    int result = SSL_read(c->tls, scratch, 1);
    if (result <= 0 && SSL_get_error(c->tls, result) == SSL_ERROR_WANT_READ) return 0;
    for (int i = 0; i < idle_count; i++) {
        if (idle[i] == c) {
            memmove(idle + i, idle + i + 1, (--idle_count - i) * sizeof *idle);
            break;
        }
    }
    return fail(c);
}

static int send_request(struct connection *c) {
    int result = SSL_write(c->tls, request, request_size);
    if (result <= 0) return blocked(c, result);
    c->filled = 0;
    c->state = HEAD;
    return 1;
}

static int head(struct connection *c) {
    int got = SSL_read(c->tls, c->head + c->filled, sizeof c->head - 1 - c->filled);
    if (got <= 0) return blocked(c, got);
    c->filled += got;
    c->head[c->filled] = 0;
    octets += got;
    char *end = strstr(c->head, "\r\n\r\n"), *length = strcasestr(c->head, "\r\ncontent-length:");
    if (!end) return 1;
    if (!length || length > end || strncmp(c->head + 8, " 200", 4)) return fail(c);
    c->missing = atol(length + 17) - (c->head + c->filled - end - 4);
    c->state = BODY;
    return 1;
}

static int body(struct connection *c) {
    while (c->missing > 0) {
        int got = SSL_read(c->tls, scratch, sizeof scratch);
        if (got <= 0) return blocked(c, got);
        c->missing -= got;
        octets += got;
    }
    answered(c);
    if (kind == REQUESTS) return rest(c);
    c->state = ENDING;
    return 1;
}

/* The server was asked to close, and waiting for that leaves no connection half open. */
static int ending(struct connection *c) {
    int result = SSL_read(c->tls, scratch, sizeof scratch);
    if (result <= 0 && SSL_get_error(c->tls, result) == SSL_ERROR_WANT_READ) {
        arm(c, EPOLLIN);
        return 0;
    }
    hang_up(c);
    dial(c);
    return 0;
}

static int lost(struct connection *c) {
    held--;
    failures++;
    epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
    return 0;
}

static void run(struct connection *c) {
    static int (*const steps[])(struct connection *) = {
        [CONNECTING] = connected, [TUNNEL] = tunnel, [RAW] = raw,   [HANDSHAKE] = handshake, [IDLE] = idling,
        [REQUEST] = send_request, [HEAD] = head,     [BODY] = body, [ENDING] = ending,       [HELD] = lost,
    };
    while (steps[c->state](c)) continue;
}

static void turn(struct timespec wait) {
    struct epoll_event events[256];
    int ready = epoll_pwait2(poller, events, 256, &wait, NULL);
    for (int i = 0; i < ready; i++) run(events[i].data.ptr);
}

/* Sends what is due and says how long nothing more will be. */
static struct timespec send_due(uint64_t start, uint64_t *sent) {
    while (rate && idle_count) {
        uint64_t due = start + *sent * SECOND / rate, at = now();
        if (due > at) return due - at < (uint64_t)at_most.tv_nsec ? (struct timespec){.tv_nsec = due - at} : at_most;
        struct connection *c = idle[0];
        memmove(idle, idle + 1, --idle_count * sizeof *idle);
        c->began = due;
        c->state = REQUEST;
        ++*sent;
        run(c);
    }
    return at_most;
}

static int ascending(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

static double microseconds(double share) {
    return done_count ? times[(uint64_t)((done_count - 1) * share)] / 1e3 : 0;
}

static void make_hello(void) {
    SSL *tls = SSL_new(context);
    BIO *out = BIO_new(BIO_s_mem());
    SSL_set_bio(tls, BIO_new(BIO_s_mem()), out);
    SSL_set_tlsext_host_name(tls, host);
    SSL_connect(tls);
    hello_size = BIO_read(out, hello, sizeof hello);
    SSL_free(tls);
}

static void prepare(const char *target, const char *path) {
    static const unsigned char http11[] = "\x08http/1.1";
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_alpn_protos(context, http11, sizeof http11 - 1);
    make_hello();
    request_size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, host,
                            kind == REQUESTS ? "" : "Connection: close\r\n");
    if (target) {
        connect_size =
            snprintf(connect_head, sizeof connect_head, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target);
    }
}

static void hold(void) {
    char ignored;
    uint64_t longest = end_of_time;
    while (held < count && now() < longest) turn(at_most);
    printf("{\"held\": %d, \"failed\": %ld}\n", held, failures);
    fflush(stdout);
    while (read(STDIN_FILENO, &ignored, 1) > 0) continue;
    turn((struct timespec){0});
    printf("{\"held\": %d, \"failed\": %ld}\n", held, failures);
}

int main(int argc, char **argv) {
    static const char *const kinds[] = {"requests", "connections", "hold", "raw"};
    const char *target = NULL, *path = "/";
    if (argc < 6) return 64;
    while (strcmp(kinds[kind], argv[1])) {
        if (++kind > RAWS) return 64;
    }
    port = atoi(argv[2]);
    host = argv[3];
    count = atoi(argv[4]);
    double seconds = atof(argv[5]);
    for (int i = 6; i < argc; i++) {
        if (!strncmp(argv[i], "target=", 7)) target = argv[i] + 7;
        else if (!strncmp(argv[i], "path=", 5)) path = argv[i] + 5;
        else if (!strncmp(argv[i], "rate=", 5)) rate = atol(argv[i] + 5);
        else if (!strncmp(argv[i], "bytes=", 6)) wanted_bytes = atol(argv[i] + 6);
        else return 64;
    }
    prctl(PR_SET_TIMERSLACK, 1);
    prepare(target, path);
    poller = epoll_create1(0);
    connections = calloc(count, sizeof *connections);
    idle = calloc(count, sizeof *idle);
    end_of_time = now() + (kind == REQUESTS ? 5 : seconds) * SECOND;
    while (opened < count && (kind != HOLDS || opened < AT_ONCE)) dial(&connections[opened++]);
    if (kind == HOLDS) {
        hold();
        return 0;
    }
    /* Kept connections are there before the time of the first request begins. */
    while (kind == REQUESTS && idle_count < count && now() < end_of_time) turn(at_most);
    uint64_t start = now(), sent = 0;
    end_of_time = start + seconds * SECOND;
    running = 1;
    while (!rate && idle_count) {
        struct connection *c = idle[--idle_count];
        if (rest(c)) run(c);
    }
    while (now() < end_of_time) turn(send_due(start, &sent));
    double elapsed = (now() - start) / 1e9;
    qsort(times, done_count, sizeof *times, ascending);
    printf("{\"done\": %lu, \"failed\": %ld, \"seconds\": %.3f, \"per_second\": %.1f, ", done_count, failures, elapsed,
           done_count / elapsed);
    printf("\"octets\": %lu, \"octets_per_second\": %.0f, ", octets, octets / elapsed);
    printf("\"p50_us\": %.1f, \"p99_us\": %.1f}\n", microseconds(.5), microseconds(.99));
    return 0;
}
