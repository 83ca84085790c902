/* A libnvidia-ml.so.1 that says what the macros on the compiler's command line tell it to. Ours: no line is NVIDIA's.
   Layouts and numbers are those of the public interface, version 13. GPU 1 is the one that fails, where one shall.
   With REPLAY it answers from a file of that name, which says for each device and question what is answered at each step:

       0 energy 1000@5 1600@6 err15 hang      device 0: 1000 read at 5 us, 1600 at 6 us, an error, no answer
       0.2 memory 4096                        MIG instance 2 of device 0; the last answer holds for all later steps

   The step is the number in the file REPLAY ".step". `hang` waits until there is another step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, BAD_VERSION = 25 };

#ifndef COUNT
#define COUNT 1
#endif
#ifndef COUNT_CODE
#define COUNT_CODE OK
#endif
#ifndef INIT
#define INIT OK
#endif
#ifndef HANDLE
#define HANDLE OK
#endif
#ifndef FAIL /* every question about GPU 1 */
#define FAIL OK
#endif
#ifndef NAME
#define NAME "NVIDIA H100 80GB HBM3"
#endif
#ifndef MIB
#define MIB 81559
#endif
#ifndef MIG /* -1: cannot; 0: off; 1: on; others are nobody's */
#define MIG -1
#endif
#ifndef PART_NAME
#define PART_NAME NAME " MIG 1g.10gb"
#endif
#ifndef ATTRIBUTES
#define ATTRIBUTES OK
#endif
#ifndef PART_MEMORY
#define PART_MEMORY OK
#endif

struct gpu { int index, part; };
static struct gpu gpus[8] = {{0, -1}, {1, -1}, {2, -1}, {3, -1}}, parts[8];

#ifdef REPLAY
static unsigned step(void) {
    unsigned number = 0;
    FILE *file = fopen(REPLAY ".step", "r");
    if (file) {
        if (fscanf(file, "%u", &number) != 1) number = 0;
        fclose(file);
    }
    return number;
}

/* The answer to a question about a device, and when its sensor was read; -1 where the file says nothing of it. */
static int replayed(const struct gpu *gpu, const char *question, unsigned long long *value, long long *read_us) {
    char who[16], line[4096];
    unsigned now = step();
    FILE *file = fopen(REPLAY, "r");
    snprintf(who, sizeof who, gpu->part < 0 ? "%d" : "%d.%d", gpu->index, gpu->part);
    while (file && fgets(line, sizeof line, file)) {
        char *rest, *token = strtok_r(line, " \n", &rest), *answer = NULL;
        if (!token || strcmp(token, who)) continue;
        token = strtok_r(NULL, " \n", &rest);
        if (!token || strcmp(token, question)) continue;
        for (unsigned index = 0; index <= now && (token = strtok_r(NULL, " \n", &rest)); index++) answer = token;
        fclose(file);
        if (!answer) return -1;
        while (!strcmp(answer, "hang")) {
            usleep(2000);
            if (step() != now) return replayed(gpu, question, value, read_us);
        }
        if (!strncmp(answer, "err", 3)) return atoi(answer + 3);
        *value = strtoull(answer, &answer, 10);
        *read_us = *answer == '@' ? strtoll(answer + 1, NULL, 10) : now + 1;
        return OK;
    }
    if (file) fclose(file);
    return -1;
}
#else
static int replayed(const struct gpu *gpu, const char *question, unsigned long long *value, long long *read_us) { return -1; }
#endif

/* Everything is asked of a device that says "here": an error there is an answer to every question. */
static int asked(const struct gpu *gpu) {
    unsigned long long value;
    long long read_us;
    int here = replayed(gpu, "here", &value, &read_us);
    if (here > OK) return here;
    return gpu->index == 1 ? FAIL : OK;
}

static int say(char *to, unsigned size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return OK;
}

#ifndef WITHOUT_INIT
int nvmlInit_v2(void) {
#ifdef HANG
    sleep(HANG);
#endif
    return INIT;
}
#endif

#ifndef WITHOUT_SHUTDOWN
int nvmlShutdown(void) { return OK; }
#endif

int nvmlSystemGetDriverVersion(char *to, unsigned size) { return say(to, size, "580.82.07"); }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = COUNT;
    return COUNT_CODE;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **gpu) {
    if (index == 1 && HANDLE != OK) return HANDLE;
    if (index >= 8) return NOT_FOUND;
    gpus[index] = (struct gpu){(int)index, -1};
    *gpu = &gpus[index];
    return OK;
}

int nvmlDeviceGetName(const struct gpu *gpu, char *to, unsigned size) {
    if (asked(gpu)) return asked(gpu);
    return say(to, size, gpu->part < 0 ? NAME : PART_NAME);
}

int nvmlDeviceGetUUID(const struct gpu *gpu, char *to, unsigned size) {
    char gpu_uuid[] = "GPU-00000000-0000-0000-0000-000000000000", part_uuid[] = "MIG-00000000-0000-0000-0000-000000000000";
    char *uuid = gpu->part < 0 ? gpu_uuid : part_uuid;
    if (asked(gpu)) return asked(gpu);
    uuid[4] = (char)('0' + gpu->index);
    uuid[strlen(uuid) - 1] = (char)('0' + gpu->part + 1);
    return say(to, size, uuid);
}

struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
int nvmlDeviceGetPciInfo_v3(const struct gpu *gpu, struct pci *pci) {
    if (asked(gpu)) return asked(gpu);
    strcpy(pci->bus_id, gpu->index ? "00000000:86:00.0" : "00000000:18:00.0");
    return OK;
}

struct memory { unsigned version; unsigned long long total, reserved, free, used; };
#ifndef WITHOUT_MEMORY
int nvmlDeviceGetMemoryInfo_v2(const struct gpu *gpu, struct memory *memory) {
    if (memory->version != (sizeof *memory | 2u << 24)) return BAD_VERSION;
    if (asked(gpu)) return asked(gpu);
    if (gpu->part >= 0 && PART_MEMORY != OK) return PART_MEMORY;
    memory->total = (unsigned long long)(gpu->part < 0 ? MIB : 9856) << 20;
    long long read_us;
    int code = replayed(gpu, "memory", &memory->used, &read_us);
    return code < 0 ? OK : code;
}
#endif

int nvmlDeviceGetMigMode(const struct gpu *gpu, unsigned *current, unsigned *pending) {
    if (asked(gpu)) return asked(gpu);
    if (MIG < 0) return NOT_SUPPORTED;
    *current = *pending = MIG;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(const struct gpu *gpu, unsigned *count) {
    *count = 7;
    return asked(gpu);
}

/* Instances at 0 and 2; at 5 one that may not be looked at. */
int nvmlDeviceGetMigDeviceHandleByIndex(const struct gpu *gpu, unsigned index, struct gpu **part) {
    if (index == 5) return 4;
    if (index != 0 && index != 2) return NOT_FOUND;
    parts[index] = (struct gpu){gpu->index, (int)index};
    *part = &parts[index];
    return OK;
}

struct attributes { unsigned processors, copy, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices; unsigned long long mib; };
int nvmlDeviceGetAttributes_v2(const struct gpu *gpu, struct attributes *attributes) {
    attributes->gpu_slices = attributes->compute_slices = 1;
    attributes->mib = 9856;
    return gpu->part < 0 ? NOT_SUPPORTED : ATTRIBUTES;
}

int nvmlDeviceGetTotalEnergyConsumption(const struct gpu *gpu, unsigned long long *millijoules) {
    long long read_us;
    *millijoules = 1;
    int code = asked(gpu) ? asked(gpu) : replayed(gpu, "energy", millijoules, &read_us);
    return code < 0 ? OK : code;
}

int nvmlDeviceGetUtilizationRates(const struct gpu *gpu, unsigned *rates) {
    unsigned long long value = 0;
    long long read_us;
    rates[0] = rates[1] = 0;
    if (asked(gpu)) return asked(gpu);
    if (MIG == 1) return NOT_SUPPORTED;
    int code = replayed(gpu, "rates", &value, &read_us);
    rates[0] = (unsigned)value;
    return code < 0 ? OK : code;
}

#ifdef REPLAY
struct field { unsigned id, scope; long long read_us, latency_us; int type, code; unsigned long long value; };
#ifndef WITHOUT_FIELDS
int nvmlDeviceGetFieldValues(const struct gpu *gpu, int count, struct field *fields) {
    if (asked(gpu)) return asked(gpu);
    for (int index = 0; index < count; index++) {
        struct field *field = &fields[index];
        field->type = 3;
        int code = field->id == 83 ? replayed(gpu, "energy", &field->value, &field->read_us) : NOT_SUPPORTED;
        field->code = code < 0 ? NOT_SUPPORTED : code;
    }
    return OK;
}
#endif

/* The last samples of a ring; the first of them is older than what was asked for, as it may be. */
struct sample { unsigned long long read_us; unsigned value, pad; };
int nvmlDeviceGetSamples(const struct gpu *gpu, int type, unsigned long long after_us, int *value_type, unsigned *count, struct sample *samples) {
    unsigned long long value;
    long long read_us;
    if (asked(gpu)) return asked(gpu);
    int code = replayed(gpu, "busy", &value, &read_us);
    if (code) return code < 0 ? NOT_SUPPORTED : code;
    if ((unsigned long long)read_us <= after_us) return NOT_FOUND;
    *value_type = 1;
    *count = 2;
    if (samples) {
        samples[0] = (struct sample){after_us, 2147483632u, 0};
        samples[1] = (struct sample){(unsigned long long)read_us, (unsigned)value, 0};
    }
    return OK;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(const struct gpu *gpu, unsigned long long *reasons) {
    long long read_us;
    int code = asked(gpu) ? asked(gpu) : replayed(gpu, "clocks", reasons, &read_us);
    return code < 0 ? NOT_SUPPORTED : code;
}

int nvmlDeviceGetEnforcedPowerLimit(const struct gpu *gpu, unsigned *milliwatts) {
    unsigned long long value;
    long long read_us;
    int code = asked(gpu) ? asked(gpu) : replayed(gpu, "limit", &value, &read_us);
    if (code == OK) *milliwatts = (unsigned)value;
    return code < 0 ? NOT_SUPPORTED : code;
}

/* One sample of one process, `sm` PERCENT, and one entry that was never filled. */
struct used { unsigned pid; unsigned long long read_us; unsigned sm, memory, encoder, decoder; };
int nvmlDeviceGetProcessUtilization(const struct gpu *gpu, struct used *used, unsigned *count, unsigned long long after_us) {
    unsigned long long pid, value;
    long long read_us;
    int code = asked(gpu) ? asked(gpu) : replayed(gpu, "sm", &value, &read_us);
    if (code) return code < 0 ? NOT_SUPPORTED : code;
    if (replayed(gpu, "process", &pid, &(long long){0}) || (unsigned long long)read_us <= after_us) return NOT_FOUND;
    unsigned room = *count;
    *count = 2;
    if (!used || room < 2) return INSUFFICIENT_SIZE;
    used[0] = (struct used){(unsigned)pid, (unsigned long long)read_us, (unsigned)value, 0, 0, 0};
    used[1] = (struct used){(unsigned)pid, (unsigned long long)read_us, 2147483632u, 0, 0, 0};
    return OK;
}

/* One process, or none for 0. */
struct process { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; };
int nvmlDeviceGetComputeRunningProcesses_v3(const struct gpu *gpu, unsigned *count, struct process *processes) {
    unsigned long long value = 0;
    long long read_us;
    int code = asked(gpu) ? asked(gpu) : replayed(gpu, "process", &value, &read_us);
    if (code) return code < 0 ? NOT_SUPPORTED : code;
    unsigned room = *count;
    *count = value ? 1 : 0;
    if (room < *count) return INSUFFICIENT_SIZE;
    if (value && processes) processes[0] = (struct process){(unsigned)value, 1 << 20, -1u, -1u};
    return OK;
}
#endif
