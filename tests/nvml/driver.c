// A scripted libnvidia-ml.so.1: one card that takes 80 W at every moment since the machine started.
// NVML's own Python binding loads it, so that both energy readers run unpatched; signatures: nvml.h.
#include <string.h>
#include <time.h>
typedef unsigned int u32;
typedef unsigned long long u64;
static const double WATTS = 80;
static double now_s(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static int text(char *to, u32 size, const char *from) { strncpy(to, from, size); to[size - 1] = 0; return 0; }
int nvmlInitWithFlags(u32 flags) { (void)flags; return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { (void)code; return "scripted driver: not there"; }
int nvmlSystemGetDriverVersion(char *to, u32 size) { return text(to, size, "scripted"); }
int nvmlDeviceGetCount_v2(u32 *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(u32 index, void **card) { *card = (void *)1; return index ? 2 : 0; }
int nvmlDeviceGetName(void *card, char *to, u32 size) { (void)card; return text(to, size, "Scripted GPU, no real card"); }
int nvmlDeviceGetUUID(void *card, char *to, u32 size) { (void)card; return text(to, size, "GPU-scripted"); }
int nvmlDeviceGetTotalEnergyConsumption(void *card, u64 *millijoules) { (void)card; *millijoules = now_s() * WATTS * 1e3; return 0; }
int nvmlDeviceGetPowerUsage(void *card, u32 *milliwatts) { (void)card; *milliwatts = WATTS * 1e3; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(void *card, u32 *milliwatts) { (void)card; *milliwatts = 350000; return 0; }
int nvmlDeviceGetMemoryInfo(void *card, u64 bytes[3]) { (void)card; bytes[0] = 1ull << 33; bytes[1] = 1ull << 33; bytes[2] = 0; return 0; }
int nvmlDeviceGetTemperature(void *card, int sensor, u32 *celsius) { (void)card; (void)sensor; *celsius = 40; return 0; }
int nvmlDeviceGetUtilizationRates(void *card, u32 percent[2]) { (void)card; percent[0] = 50; percent[1] = 1; return 0; }
int nvmlDeviceGetComputeMode(void *card, int *mode) { (void)card; *mode = 0; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *card, u32 *count, void *list) { (void)card; (void)list; *count = 0; return 0; }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *card, u32 *count, void *list) { (void)card; (void)list; *count = 0; return 0; }
int nvmlDeviceGetCurrentClocksEventReasons(void *card, u64 *reasons) { (void)card; *reasons = 0; return 0; }
