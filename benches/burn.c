/* A workload that knows what it used: burns CPU in one of three ways and writes its own rusage, children included, in ns.
 * (What its process had used before it began, as another program, is not its own.)
 * burn loop MILLISECONDS FILE | burn children COUNT FILE | burn threads MILLISECONDS FILE
 * burn mixed MILLISECONDS FILE: for so long by the wall clock busy, idle, in short children and in files, in turn
 * burn hold MILLISECONDS FILE: holds 256 MiB for so long, and writes the byte-seconds instead */
#include <pthread.h>
#include <stdio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *spin(void *milliseconds) {
    long long end = now(CLOCK_THREAD_CPUTIME_ID) + *(long *)milliseconds * 1000000LL;
    while (now(CLOCK_THREAD_CPUTIME_ID) < end) {
    }
    return NULL;
}

static long long used(int who) {
    struct rusage u;
    getrusage(who, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000LL + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000LL;
}

static int children(long count) {
    for (long i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            long each = 2;
            spin(&each);
            _exit(0);
        }
        if (child < 0 || waitpid(child, NULL, 0) < 0) return 1;
    }
    return 0;
}

static int mixed(long milliseconds) {
    static char block[65536];
    long long end = now(CLOCK_MONOTONIC) + milliseconds * 1000000LL;
    for (unsigned turn = 0; now(CLOCK_MONOTONIC) < end; turn++) {
        long busy = 1 + turn % 40;
        spin(&busy);
        if (children(turn % 3)) return 1;
        FILE *file = tmpfile();
        if (!file || fwrite(block, sizeof block, 1, file) != 1 || fclose(file)) return 1;
        usleep(turn % 7 * 5000);
    }
    return 0;
}

/* Byte-seconds held, from when half was touched to when half was given back. */
static long long hold(long milliseconds) {
    size_t bytes = 256UL << 20;
    long long from = now(CLOCK_BOOTTIME);
    char *held = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (held == MAP_FAILED) exit(1);
    from = (from + now(CLOCK_BOOTTIME)) / 2;
    usleep(milliseconds * 1000);
    long long to = now(CLOCK_BOOTTIME);
    munmap(held, bytes);
    to = (to + now(CLOCK_BOOTTIME)) / 2;
    return (long long)((double)bytes * (to - from) / 1e9);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    long n = atol(argv[2]);
    long long held = -1, before = used(RUSAGE_SELF);
    if (!strcmp(argv[1], "loop")) {
        spin(&n);
    } else if (!strcmp(argv[1], "children")) {
        if (children(n)) return 1;
    } else if (!strcmp(argv[1], "mixed")) {
        if (mixed(n)) return 1;
    } else if (!strcmp(argv[1], "hold")) {
        held = hold(n);
    } else if (!strcmp(argv[1], "threads")) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, spin, &n);
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    } else {
        return 2;
    }
    FILE *file = fopen(argv[3], "w");
    if (!file) return 1;
    fprintf(file, "%lld\n", held >= 0 ? held : used(RUSAGE_SELF) + used(RUSAGE_CHILDREN) - before);
    return fclose(file) != 0;
}
