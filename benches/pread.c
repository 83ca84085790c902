/* The least that reading an order's counters can cost: files that stay open, one pread each, nothing done with what they say.
 * pread ROUNDS FILES: FILES names one file a line, `1 PATH` for each round, `10 PATH` for each tenth. Prints the mean CPU time of
 * a round, ns, for every ten rounds. The reference of benches/sampling.py. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static char buffer[16384];

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void read_all(const int *files, long count) {
    for (long i = 0; i < count; i++) {
        /* What the kernel writes line by line is not whole after one call; neither program asks such files per order. */
        if (pread(files[i], buffer, sizeof buffer, 0) < 0) exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    FILE *list = fopen(argv[2], "r");
    if (!list) return 1;
    int *each = malloc(sizeof(int) * 65536), *tenth = malloc(sizeof(int) * 65536);
    long eaches = 0, tenths = 0, often;
    char path[4096];
    while (fscanf(list, "%ld %4095s", &often, path) == 2) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0 || eaches >= 65536 || tenths >= 65536) {
            perror(path);
            return 1;
        }
        if (often == 1) each[eaches++] = file;
        else tenth[tenths++] = file;
    }
    long rounds = atol(argv[1]);
    for (int i = 0; i < 20; i++) read_all(each, eaches);
    for (long ten = 0; ten < rounds / 10; ten++) {
        long long from = now();
        for (int i = 0; i < 10; i++) read_all(each, eaches);
        read_all(tenth, tenths);
        printf("%lld\n", (now() - from) / 10);
    }
    return 0;
}
