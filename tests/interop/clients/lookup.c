/* The C library as a client: getaddrinfo for each name, one line each. Built static with musl and dynamic with glibc. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        struct addrinfo hints, *found;
        memset(&hints, 0, sizeof hints);
        hints.ai_socktype = SOCK_STREAM;
        int code = getaddrinfo(argv[i], "443", &hints, &found);
        printf("%s", argv[i]);
        if (code != 0) {
            /* Both libraries tell a name that does not exist from a server that does not answer. */
            printf(" %s\n", code == EAI_NONAME ? "NONAME" : code == EAI_AGAIN ? "AGAIN" : gai_strerror(code));
            continue;
        }
        for (struct addrinfo *a = found; a; a = a->ai_next) {
            char text[INET6_ADDRSTRLEN];
            const void *address = a->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)a->ai_addr)->sin_addr
                                                          : (void *)&((struct sockaddr_in6 *)a->ai_addr)->sin6_addr;
            printf(" %s", inet_ntop(a->ai_family, address, text, sizeof text));
        }
        putchar('\n');
        freeaddrinfo(found);
    }
    return 0;
}
