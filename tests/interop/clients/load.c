/* The C library under load: getaddrinfo again and again until SIGTERM, then one line: asked, lost, wrong, of the second name with the
 * endpoint's addresses as the VPC's resolver has it, the slowest in milliseconds, and how long it was from the first loss to the last. The first argument is a name with addresses of
 * 10.53.1.0/24, the second one with addresses of 198.51.100.10/31, the third a domain of which every name exists, elsewhere. */
#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t over;

static void end(int number) {
    (void)number;
    over = 1;
}

static long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000 + at.tv_nsec / 1000000;
}

int main(int argc, char **argv) {
    if (argc != 4) return 64;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = end;
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, NULL);
    unsigned asked = 0, lost = 0, wrong = 0, of_vpc = 0;
    long slowest = 0, first = 0, last = 0;
    while (!over) {
        char name[256];
        int kind = asked % 3;
        if (kind < 2) snprintf(name, sizeof name, "%s", argv[1 + kind]);
        else snprintf(name, sizeof name, "n%u-%d.%s", asked, (int)getpid(), argv[3]);
        struct addrinfo hints, *found;
        memset(&hints, 0, sizeof hints);
        hints.ai_socktype = SOCK_STREAM;
        hints.ai_family = AF_INET;
        long began = now();
        int code = getaddrinfo(name, "443", &hints, &found);
        long ended = now();
        asked++;
        if (ended - began > slowest) slowest = ended - began;
        if (code != 0) {
            lost++;
            if (!first) first = began;
            last = ended;
            fprintf(stderr, "%s: %s\n", name, gai_strerror(code));
        } else {
            struct in_addr ip = ((struct sockaddr_in *)found->ai_addr)->sin_addr;
            int is_private = (ntohl(ip.s_addr) & 0xffffff00) == 0x0a350100;
            int is_gateway = (ntohl(ip.s_addr) & 0xfffffffe) == 0xc633640a;
            if (kind == 1 && is_private) of_vpc++;
            else if ((kind == 0) != is_private || (kind == 1) != is_gateway) wrong++;
            freeaddrinfo(found);
        }
        usleep(2000);
    }
    printf("%u %u %u %u %ld %ld\n", asked, lost, wrong, of_vpc, slowest, last - first);
    return 0;
}
