/* A libnvidia-ml.so.1 that says what the macros on the compiler's command line tell it to. Ours: no line is NVIDIA's.
   Layouts and numbers are those of the public interface, version 13. GPU 1 is the one that fails, where one shall. */
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

static int asked(const struct gpu *gpu) { return gpu->index == 1 ? FAIL : OK; }

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
    return OK;
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
    *millijoules = 1;
    return asked(gpu);
}

int nvmlDeviceGetUtilizationRates(const struct gpu *gpu, unsigned *rates) {
    rates[0] = rates[1] = 0;
    if (asked(gpu)) return asked(gpu);
    return MIG == 1 ? NOT_SUPPORTED : OK;
}
