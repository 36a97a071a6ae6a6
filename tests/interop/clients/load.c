/* The C library under load: getaddrinfo again and again until SIGTERM, then one line: asked, lost, wrong, elsewhere, the
 * slowest in milliseconds, and how long it was from the first loss to the last. Each argument is NAME=ADDRESS,ADDRESS...:
 * any other address is wrong. Elsewhere is one that came while resolv.conf named another server than one on loopback. An @
 * in a name is a number, new each time. */
#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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

/* Whether resolv.conf names a server on loopback first. */
static int leads_here(void) {
    char line[512];
    int here = 0;
    FILE *file = fopen("/etc/resolv.conf", "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "nameserver ", 11)) {
            here = !strncmp(line + 11, "127.", 4);
            break;
        }
    fclose(file);
    return here;
}

/* Whether all of these addresses are in the list. */
static int all_in(const struct addrinfo *found, const char *list) {
    for (; found; found = found->ai_next) {
        char text[INET_ADDRSTRLEN], *rest, *one, *copy = strdup(list);
        int known = 0;
        inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text);
        for (one = strtok_r(copy, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) known |= !strcmp(one, text);
        free(copy);
        if (!known) return 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 2) return 64;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = end;
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, NULL);
    unsigned asked = 0, lost = 0, wrong = 0, elsewhere = 0;
    long slowest = 0, first = 0, last = 0;
    while (!over) {
        char name[256];
        const char *argument = argv[1 + asked % (argc - 1)], *list = strchr(argument, '=');
        if (!list) return 64;
        int length = (int)(list++ - argument);
        const char *number = memchr(argument, '@', length);
        int before = number ? (int)(number - argument) : length;
        if (number)
            snprintf(name, sizeof name, "%.*s%u-%d%.*s", before, argument, asked, (int)getpid(), length - before - 1, number + 1);
        else snprintf(name, sizeof name, "%.*s", length, argument);
        struct addrinfo hints, *found;
        memset(&hints, 0, sizeof hints);
        hints.ai_socktype = SOCK_STREAM;
        hints.ai_family = AF_INET;
        int here = leads_here();
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
            if (!all_in(found, list)) {
                if (here && leads_here()) wrong++;
                else elsewhere++;
            }
            freeaddrinfo(found);
        }
        usleep(2000);
    }
    printf("%u %u %u %u %ld %ld\n", asked, lost, wrong, elsewhere, slowest, last - first);
    return 0;
}
