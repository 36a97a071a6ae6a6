/* A load of DNS questions: what it does itself is little beside what the kernel does for its sockets.
 *
 * dns_load PORT QUESTIONS SECONDS udp|tcp|rate VALUE [UNIQUE]
 *   udp, tcp   VALUE queries are always in flight, over 20 sockets or connections; those of TCP are pipelined
 *   rate       VALUE queries a second over UDP, whether or not replies come; latency counts from when each was due
 *   UNIQUE     a number: puts a label before each name that no other query has, nor a run of another number
 *
 * A line of QUESTIONS is a name, a type's number and how many answers there must be. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 12, LABEL = 13, QUERY = 320, REPLY = 1500, QUESTIONS = 65536, SOCKETS = 20, BATCH = 64, IDS = 65536,
       INPUT = 65536, STEPS = 32, SECOND = 1000000000 };

static struct question {
    uint8_t bytes[QUERY];
    uint16_t length, answers;
} questions[QUESTIONS];
static unsigned question_count, next_question, serial, unique;

/* When a query was sent, 0 once its reply has come, and what it asked. */
struct flight {
    uint64_t at;
    unsigned question;
};

static struct lane {
    int descriptor, in_flight;
    uint16_t next_id;
    uint64_t heard;
    size_t kept;
    uint8_t *input;
    struct flight flights[IDS];
} lanes[SOCKETS];
static struct pollfd polled[SOCKETS];
static int port, stream;

static uint64_t histogram[64 * STEPS], total, longest;
static unsigned long sent, answered, wrong, failed, reconnected;

static void quit(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * (uint64_t)SECOND + time.tv_nsec;
}

/* A bucket is at most a 32nd as wide as what is in it. */
static int bucket(uint64_t value) {
    int shift = value < 2 * STEPS ? 0 : 58 - __builtin_clzll(value);
    return shift * STEPS + (int)(value >> shift);
}

static uint64_t smallest(int bucket) {
    int shift = bucket < 2 * STEPS ? 0 : bucket / STEPS - 1;
    return (uint64_t)(bucket - shift * STEPS) << shift;
}

/* Microseconds. */
static double percentile(double share) {
    uint64_t below = 0;
    for (int i = 0; i < 64 * STEPS; i++)
        if ((below += histogram[i]) > answered * share) return smallest(i) / 1e3;
    return longest / 1e3;
}

/* One query: a header, the name's labels, type and class IN. */
static void compile(struct question *question, const char *name, int type, int answers) {
    static const uint8_t header[HEADER] = {0, 0, 1, 0, 0, 1};
    uint8_t *at = question->bytes;
    memcpy(at, header, HEADER);
    at += HEADER;
    if (unique) {
        char label[LABEL + 1];
        snprintf(label, sizeof label, "%04x%08x", unique & 0xffff, 0);
        *at++ = LABEL - 1;
        memcpy(at, label, LABEL - 1);
        at += LABEL - 1;
    }
    while (*name) {
        size_t length = strcspn(name, ".");
        *at++ = length;
        memcpy(at, name, length);
        at += length;
        name += length + (name[length] == '.');
    }
    const uint8_t end[] = {0, type >> 8, type, 0, 1};
    memcpy(at, end, sizeof end);
    question->length = at + sizeof end - question->bytes;
    question->answers = answers;
}

static void read_questions(const char *path) {
    char name[256];
    int type, answers;
    FILE *file = fopen(path, "r");
    if (!file) quit(path);
    while (question_count < QUESTIONS && fscanf(file, "%255s %d %d", name, &type, &answers) == 3)
        compile(&questions[question_count++], name, type, answers);
    fclose(file);
    if (!question_count) exit(1);
}

static void open_lane(struct lane *lane) {
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, receive = 1 << 20;
    lane->descriptor = socket(AF_INET, stream ? SOCK_STREAM : SOCK_DGRAM, 0);
    setsockopt(lane->descriptor, SOL_SOCKET, SO_RCVBUF, &receive, sizeof receive);
    if (stream) setsockopt(lane->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(lane->descriptor, (struct sockaddr *)&server, sizeof server)) quit("connect");
    polled[lane - lanes] = (struct pollfd){.fd = lane->descriptor, .events = POLLIN};
    lane->heard = now();
}

/* What was in flight is lost. */
static void forget(struct lane *lane, uint64_t time) {
    memset(lane->flights, 0, sizeof lane->flights);
    lane->in_flight = 0;
    lane->heard = time;
}

static void reopen(struct lane *lane) {
    reconnected++;
    close(lane->descriptor);
    lane->kept = 0;
    forget(lane, now());
    open_lane(lane);
}

/* Writes the next query of this lane, which is due at `due`; gives its length. */
static size_t next_query(struct lane *lane, uint8_t *bytes, uint64_t due) {
    unsigned index = next_question++ % question_count;
    const struct question *question = &questions[index];
    memcpy(bytes, question->bytes, question->length);
    uint16_t id = lane->next_id++;
    bytes[0] = id >> 8;
    bytes[1] = id;
    if (unique) {
        static const char digits[] = "0123456789abcdef";
        unsigned rest = serial++;
        for (int i = 0; i < 8; i++, rest >>= 4) bytes[HEADER + LABEL - 1 - i] = digits[rest & 15];
    }
    lane->flights[id] = (struct flight){due, index};
    return question->length;
}

static void send_queries(struct lane *lane, int count, uint64_t due) {
    static uint8_t bytes[BATCH][QUERY], joined[BATCH * QUERY];
    static struct iovec parts[BATCH];
    static struct mmsghdr batch[BATCH];
    size_t size = 0;
    if (count > BATCH) count = BATCH;
    for (int i = 0; i < count; i++) {
        if (stream) {
            size_t length = next_query(lane, joined + size + 2, due);
            joined[size] = length >> 8;
            joined[size + 1] = length;
            size += length + 2;
        } else {
            parts[i] = (struct iovec){bytes[i], next_query(lane, bytes[i], due)};
            batch[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        }
    }
    sent += count;
    lane->in_flight += count;
    if (!stream)
        sendmmsg(lane->descriptor, batch, count, 0);
    else if (send(lane->descriptor, joined, size, MSG_NOSIGNAL) != (ssize_t)size)
        reopen(lane);
}

static void count_reply(struct lane *lane, const uint8_t *reply, size_t length, uint64_t time) {
    if (length < HEADER || !(reply[2] & 0x80)) return;
    struct flight *flight = &lane->flights[reply[0] << 8 | reply[1]];
    if (!flight->at) return;
    uint64_t took = time > flight->at ? time - flight->at : 0;
    flight->at = 0;
    lane->in_flight--;
    answered++;
    total += took;
    histogram[bucket(took)]++;
    if (took > longest) longest = took;
    if (reply[3] & 15) failed++;
    else if ((reply[6] << 8 | reply[7]) != questions[flight->question].answers) wrong++;
}

static void receive_datagrams(struct lane *lane) {
    static uint8_t replies[BATCH][REPLY];
    static struct iovec parts[BATCH];
    static struct mmsghdr batch[BATCH];
    for (int i = 0; i < BATCH && !batch[i].msg_hdr.msg_iov; i++) {
        parts[i] = (struct iovec){replies[i], REPLY};
        batch[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int count = recvmmsg(lane->descriptor, batch, BATCH, MSG_DONTWAIT, NULL);
    lane->heard = now();
    for (int i = 0; i < count; i++) count_reply(lane, replies[i], batch[i].msg_len, lane->heard);
}

static void receive_stream(struct lane *lane) {
    ssize_t more = recv(lane->descriptor, lane->input + lane->kept, INPUT - lane->kept, MSG_DONTWAIT);
    if (more <= 0) {
        reopen(lane);
        return;
    }
    lane->kept += more;
    lane->heard = now();
    size_t read = 0;
    while (lane->kept - read >= 2) {
        const uint8_t *next = lane->input + read;
        size_t length = next[0] << 8 | next[1];
        if (lane->kept - read - 2 < length) break;
        count_reply(lane, next + 2, length, lane->heard);
        read += length + 2;
    }
    lane->kept -= read;
    memmove(lane->input, lane->input + read, lane->kept);
}

static void receive_all(int wait) {
    if (poll(polled, SOCKETS, wait) <= 0) return;
    for (int i = 0; i < SOCKETS; i++) {
        if (!polled[i].revents) continue;
        if (stream)
            receive_stream(&lanes[i]);
        else
            receive_datagrams(&lanes[i]);
    }
}

/* So many in flight until the end; after a second without any reply, what a lane has in flight is lost. */
static void keep_in_flight(int value, uint64_t end) {
    int each = value < SOCKETS ? 1 : value / SOCKETS;
    for (uint64_t time = now(); time < end; time = now()) {
        for (int i = 0; i < SOCKETS; i++) {
            struct lane *lane = &lanes[i];
            if (lane->in_flight && time > lane->heard + SECOND) forget(lane, time);
            if (lane->in_flight < each) send_queries(lane, each - lane->in_flight, now());
        }
        receive_all(100);
    }
}

/* So many a second until the end. Never sleeps, as waking up would count as the contestant's latency. */
static void keep_rate(int value, uint64_t begin, uint64_t end) {
    double step = (double)SECOND / value;
    for (uint64_t time = now(), due = begin; time < end; time = now()) {
        for (; due <= time; due = begin + (uint64_t)(sent * step)) send_queries(&lanes[sent % SOCKETS], 1, due);
        receive_all(0);
    }
}

int main(int count, char **words) {
    if (count < 6) {
        fputs("usage: dns_load PORT QUESTIONS SECONDS udp|tcp|rate VALUE [UNIQUE]\n", stderr);
        return 64;
    }
    port = atoi(words[1]);
    stream = !strcmp(words[4], "tcp");
    unique = count > 6 ? atoi(words[6]) : 0;
    read_questions(words[2]);
    for (int i = 0; i < SOCKETS; i++) {
        lanes[i].input = malloc(INPUT);
        open_lane(&lanes[i]);
    }
    uint64_t begin = now(), end = begin + (uint64_t)(atof(words[3]) * SECOND);
    if (!strcmp(words[4], "rate"))
        keep_rate(atoi(words[5]), begin, end);
    else
        keep_in_flight(atoi(words[5]), end);
    double seconds = (now() - begin) / 1e9;
    unsigned long in_time = answered;
    /* What comes late is not lost, but no part of the rate either. */
    for (end = now() + SECOND; now() < end && answered < sent;) receive_all(50);
    printf("{\"rate\": %.0f, \"sent\": %lu, \"answered\": %lu, \"lost\": %lu, \"failed\": %lu, \"wrong\": %lu, "
           "\"reconnected\": %lu, \"mean_us\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"max_us\": %.1f}\n",
           in_time / seconds, sent, answered, sent - answered, failed, wrong, reconnected,
           answered ? total / 1e3 / answered : 0, percentile(.5), percentile(.99), percentile(.999), longest / 1e3);
}
