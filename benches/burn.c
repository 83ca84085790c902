/* A workload that knows what it used: burns CPU in one of three ways and writes its own rusage, children included, in ns.
 * burn loop MILLISECONDS FILE | burn children COUNT FILE | burn threads MILLISECONDS FILE */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    long n = atol(argv[2]);
    if (!strcmp(argv[1], "loop")) {
        spin(&n);
    } else if (!strcmp(argv[1], "children")) {
        for (long i = 0; i < n; i++) {
            pid_t child = fork();
            if (child == 0) {
                long each = 2;
                spin(&each);
                _exit(0);
            }
            if (child < 0 || waitpid(child, NULL, 0) < 0) return 1;
        }
    } else if (!strcmp(argv[1], "threads")) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, spin, &n);
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    } else {
        return 2;
    }
    FILE *file = fopen(argv[3], "w");
    if (!file) return 1;
    fprintf(file, "%lld\n", used(RUSAGE_SELF) + used(RUSAGE_CHILDREN));
    return fclose(file) != 0;
}
