/*
 * A libnvidia-ml.so.1 without hardware: the part of NVML that power capping uses, over simulated GPUs.
 *
 * The nvml* symbols behave as NVIDIA's documentation says (milliwatts, millijoules, an error for a
 * limit out of range). The stub_* symbols are the test's hands: they change the GPUs behind the
 * caller's back, make calls slow, hang or fail, and count them. Everything is guarded by one lock that
 * is not held while a call is slow or hangs, so that GPUs do not wait for each other.
 *
 * Defaults from the environment, when the library is loaded:
 *   NVML_STUB_GPUS      how many GPUs (2)
 *   NVML_STUB_DELAY_US  how long each call takes (0)
 *   NVML_STUB_DEMAND_W  what each GPU's work would draw without a limit (500)
 *   NVML_STUB_SEED      makes the UUIDs of different processes differ (0)
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_GPUS 64
#define LIBRARY MAX_GPUS /* the row of the calls that belong to no GPU */
#define ALL -1
#define FOREVER -1

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, UNKNOWN = 999,
};

#define FUNCTIONS(F)                                                                                     \
    F(nvmlInitWithFlags) F(nvmlShutdown) F(nvmlDeviceGetCount_v2) F(nvmlDeviceGetHandleByIndex_v2)       \
    F(nvmlDeviceGetHandleByUUID) F(nvmlDeviceGetUUID) F(nvmlDeviceGetName) F(nvmlDeviceGetIndex)         \
    F(nvmlDeviceGetPersistenceMode) F(nvmlDeviceGetPowerManagementLimit)                                 \
    F(nvmlDeviceGetPowerManagementLimitConstraints) F(nvmlDeviceGetPowerManagementDefaultLimit)          \
    F(nvmlDeviceGetEnforcedPowerLimit) F(nvmlDeviceSetPowerManagementLimit) F(nvmlDeviceGetPowerUsage)   \
    F(nvmlDeviceGetTotalEnergyConsumption) F(nvmlDeviceGetFieldValues)                                   \
    F(field186) /* not a function: the instantaneous power among the field values */

#define NUMBER(name) F_##name,
#define NAME(name) #name,
enum { FUNCTIONS(NUMBER) FUNCTION_COUNT };
static const char *const function_names[] = {FUNCTIONS(NAME)};

struct gpu {
    unsigned index;
    char uuid[48];
    double min_mw, max_mw, default_mw, limit_mw;
    double out_of_band_mw; /* a BMC's limit; 0: none */
    double demand_mw;      /* what the work would draw without a limit */
    double draw_mw, energy_mj, settled_at;
    double stuck_mw;       /* what the enforced limit reads whatever is asked; 0: nothing */
    int persistence;
    int deaf;      /* takes limits without an error and without an effect */
    int lost_code; /* 0: there */
};

struct field_value {
    uint32_t field_id, scope_id;
    int64_t timestamp, latency_us;
    int value_type, code;
    union {
        double real;
        unsigned u32;
        unsigned long long u64;
    } value;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;
static struct gpu gpus[MAX_GPUS];
static unsigned gpu_count;
static int references; /* nvmlInit calls not yet undone */
static double lag_s, delay_us;
static int calls[MAX_GPUS + 1][FUNCTION_COUNT];
static int hung[MAX_GPUS + 1][FUNCTION_COUNT];
static int hanging[MAX_GPUS + 1]; /* callers that hang now */
static struct { int code, times, done; } faults[MAX_GPUS + 1][FUNCTION_COUNT];
static __thread int late; /* what a call that was carried out answers in spite of it */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double environment(const char *name, double otherwise) {
    const char *text = getenv(name);
    return text && *text ? atof(text) : otherwise;
}

static double enforced(const struct gpu *g) {
    if (g->stuck_mw > 0) return g->stuck_mw;
    return g->out_of_band_mw > 0 && g->out_of_band_mw < g->limit_mw ? g->out_of_band_mw : g->limit_mw;
}

/* Bring draw and energy up to now. The draw follows min(demand, enforced limit) with a first-order lag;
 * its integral is exact, so the energy counter does not depend on how often anyone reads. */
static void settle(struct gpu *g) {
    double t = now(), dt = t - g->settled_at;
    double target = fmin(g->demand_mw, enforced(g));
    double decay = lag_s > 0 ? exp(-dt / lag_s) : 0;
    g->energy_mj += target * dt + (g->draw_mw - target) * lag_s * (1 - decay);
    g->draw_mw = target + (g->draw_mw - target) * decay;
    g->settled_at = t;
}

/* Every nvml* call starts here: counts, waits as told, and returns the error to answer. Leaves the
 * lock held, whatever it returns. */
static int enter(unsigned row, int function) {
    pthread_mutex_lock(&lock);
    calls[row][function]++;
    if (delay_us > 0) {
        double us = delay_us;
        pthread_mutex_unlock(&lock);
        usleep((useconds_t)us);
        pthread_mutex_lock(&lock);
    }
    hanging[row]++;
    while (hung[row][function]) pthread_cond_wait(&released, &lock);
    hanging[row]--;
    late = OK;
    if (!references && function != F_nvmlInitWithFlags) return UNINITIALIZED;
    if (row != LIBRARY && gpus[row].lost_code) return gpus[row].lost_code;
    int code = faults[row][function].code;
    if (code && faults[row][function].times > 0 && --faults[row][function].times == 0)
        faults[row][function].code = 0;
    if (faults[row][function].done) {
        late = code;
        return OK;
    }
    return code;
}

static int leave(int code) {
    pthread_mutex_unlock(&lock);
    return code == OK ? late : code;
}

static int row_of(const struct gpu *g) {
    return g >= gpus && g < gpus + gpu_count ? (int)(g - gpus) : -1;
}

static int copy(char *to, unsigned size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return OK;
}

/* ---- NVML ---- */

EXPORT int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int code = enter(LIBRARY, F_nvmlInitWithFlags);
    if (code == OK) references++;
    return leave(code);
}

EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT int nvmlShutdown(void) {
    int code = enter(LIBRARY, F_nvmlShutdown);
    if (code == OK) references--;
    return leave(code);
}

EXPORT const char *nvmlErrorString(int code) {
    return code == OK ? "Success" : code == UNKNOWN ? "Unknown Error" : "Stub Error";
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = enter(LIBRARY, F_nvmlDeviceGetCount_v2);
    if (code == OK) *count = gpu_count;
    return leave(code);
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **g) {
    if (index >= gpu_count) return INVALID_ARGUMENT;
    int code = enter(index, F_nvmlDeviceGetHandleByIndex_v2);
    if (code == OK) *g = &gpus[index];
    return leave(code);
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, struct gpu **g) {
    for (unsigned i = 0; i < gpu_count; i++) {
        if (strcmp(gpus[i].uuid, uuid)) continue;
        int code = enter(i, F_nvmlDeviceGetHandleByUUID);
        if (code == OK) *g = &gpus[i];
        return leave(code);
    }
    return NOT_FOUND;
}

/* The body of a call on one GPU: `statement` runs with the lock held, draw and energy up to date. */
#define DEVICE_CALL(name, statement)                                                                     \
    int row = row_of(g);                                                                                 \
    if (row < 0) return INVALID_ARGUMENT;                                                                \
    int code = enter((unsigned)row, F_##name);                                                           \
    if (code == OK) {                                                                                    \
        settle(g);                                                                                       \
        statement;                                                                                       \
    }                                                                                                    \
    return leave(code)

EXPORT int nvmlDeviceGetUUID(struct gpu *g, char *text, unsigned size) {
    DEVICE_CALL(nvmlDeviceGetUUID, code = copy(text, size, g->uuid));
}

EXPORT int nvmlDeviceGetName(struct gpu *g, char *text, unsigned size) {
    DEVICE_CALL(nvmlDeviceGetName, code = copy(text, size, "Stub H200"));
}

EXPORT int nvmlDeviceGetIndex(struct gpu *g, unsigned *index) {
    DEVICE_CALL(nvmlDeviceGetIndex, *index = g->index);
}

EXPORT int nvmlDeviceGetPersistenceMode(struct gpu *g, int *mode) {
    DEVICE_CALL(nvmlDeviceGetPersistenceMode, *mode = g->persistence);
}

EXPORT int nvmlDeviceGetPowerManagementLimit(struct gpu *g, unsigned *mw) {
    DEVICE_CALL(nvmlDeviceGetPowerManagementLimit, *mw = (unsigned)g->limit_mw);
}

EXPORT int nvmlDeviceGetPowerManagementLimitConstraints(struct gpu *g, unsigned *min, unsigned *max) {
    DEVICE_CALL(nvmlDeviceGetPowerManagementLimitConstraints,
                *min = (unsigned)g->min_mw; *max = (unsigned)g->max_mw);
}

EXPORT int nvmlDeviceGetPowerManagementDefaultLimit(struct gpu *g, unsigned *mw) {
    DEVICE_CALL(nvmlDeviceGetPowerManagementDefaultLimit, *mw = (unsigned)g->default_mw);
}

EXPORT int nvmlDeviceGetEnforcedPowerLimit(struct gpu *g, unsigned *mw) {
    DEVICE_CALL(nvmlDeviceGetEnforcedPowerLimit, *mw = (unsigned)enforced(g));
}

EXPORT int nvmlDeviceSetPowerManagementLimit(struct gpu *g, unsigned mw) {
    DEVICE_CALL(nvmlDeviceSetPowerManagementLimit,
                if (mw < g->min_mw || mw > g->max_mw) code = INVALID_ARGUMENT;
                else if (!g->deaf) g->limit_mw = mw);
}

EXPORT int nvmlDeviceGetPowerUsage(struct gpu *g, unsigned *mw) {
    DEVICE_CALL(nvmlDeviceGetPowerUsage, *mw = (unsigned)lround(g->draw_mw));
}

EXPORT int nvmlDeviceGetTotalEnergyConsumption(struct gpu *g, unsigned long long *mj) {
    DEVICE_CALL(nvmlDeviceGetTotalEnergyConsumption, *mj = (unsigned long long)g->energy_mj);
}

static void fill(struct field_value *field, struct gpu *g, int row) {
    if (field->field_id != 186) {
        field->code = NOT_SUPPORTED;
        return;
    }
    calls[row][F_field186]++;
    field->code = faults[row][F_field186].code;
    field->value_type = 1; /* unsigned int */
    field->value.u32 = field->code ? 0 : (unsigned)lround(g->draw_mw);
}

EXPORT int nvmlDeviceGetFieldValues(struct gpu *g, int count, struct field_value *fields) {
    DEVICE_CALL(nvmlDeviceGetFieldValues, for (int i = 0; i < count; i++) fill(&fields[i], g, row));
}

/* ---- the test's hands ---- */

static int function_number(const char *name) {
    for (int f = 0; f < FUNCTION_COUNT; f++)
        if (!strcmp(function_names[f], name)) return f;
    fprintf(stderr, "nvml_stub: no function %s\n", name);
    abort();
}

/* Let the hanging calls of one GPU, or with ALL of all GPUs and the library, go on. */
EXPORT void stub_release(int index) {
    pthread_mutex_lock(&lock);
    for (int row = 0; row <= LIBRARY; row++)
        if (index == ALL || index == row) memset(hung[row], 0, sizeof hung[row]);
    pthread_cond_broadcast(&released);
    pthread_mutex_unlock(&lock);
}

/* Back to `count` fresh GPUs (0: as the environment says); releases whoever hangs. */
EXPORT void stub_reset(unsigned count, double call_delay_us, double draw_lag_s) {
    stub_release(ALL);
    pthread_mutex_lock(&lock);
    gpu_count = count ? count : (unsigned)environment("NVML_STUB_GPUS", 2);
    if (gpu_count > MAX_GPUS) gpu_count = MAX_GPUS;
    delay_us = count ? call_delay_us : environment("NVML_STUB_DELAY_US", 0);
    lag_s = draw_lag_s;
    references = 0;
    memset(calls, 0, sizeof calls);
    memset(faults, 0, sizeof faults);
    memset(gpus, 0, sizeof gpus);
    for (unsigned i = 0; i < gpu_count; i++) {
        struct gpu *g = &gpus[i];
        g->index = i;
        snprintf(g->uuid, sizeof g->uuid, "GPU-%08x-0000-4000-8000-%012x",
                 (unsigned)environment("NVML_STUB_SEED", 0), i);
        g->min_mw = 200e3;
        g->max_mw = g->default_mw = g->limit_mw = 700e3;
        g->demand_mw = environment("NVML_STUB_DEMAND_W", 500) * 1e3;
        g->draw_mw = fmin(g->demand_mw, g->limit_mw);
        g->settled_at = now();
        g->persistence = 1;
    }
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void loaded(void) { stub_reset(0, 0, 0.1); }

EXPORT unsigned stub_count(void) { return gpu_count; }
EXPORT int stub_references(void) { return references; }
EXPORT const char *stub_uuid(unsigned index) { return gpus[index].uuid; }
EXPORT double stub_limit(unsigned index) { return gpus[index].limit_mw; }

/* Calls of a function since the reset, on one GPU or, with ALL, on any and on none. */
EXPORT int stub_calls(const char *name, int index) {
    int f = function_number(name), sum = 0;
    for (int row = 0; row <= LIBRARY; row++)
        if (index == ALL || index == row) sum += calls[row][f];
    return sum;
}

EXPORT int stub_hanging(unsigned index) { return hanging[index]; }

/* Calls of `name` ("" for any) on one GPU, or with ALL on the library, answer only after stub_release. */
EXPORT void stub_hang(int index, const char *name) {
    pthread_mutex_lock(&lock);
    for (int f = 0; f < FUNCTION_COUNT; f++)
        if (!*name || f == function_number(name)) hung[index == ALL ? LIBRARY : index][f] = 1;
    pthread_mutex_unlock(&lock);
}

/* Answer `code` to the next `times` calls of `name` (FOREVER; code 0 ends it), on one GPU or on ALL;
 * with `done` they take effect all the same. */
EXPORT void stub_fail(const char *name, int index, int code, int times, int done) {
    pthread_mutex_lock(&lock);
    for (int row = 0; row <= LIBRARY; row++)
        if (index == ALL || index == row) {
            faults[row][function_number(name)].code = code;
            faults[row][function_number(name)].times = times;
            faults[row][function_number(name)].done = done;
        }
    pthread_mutex_unlock(&lock);
}

#define CHANGE(statement)                                                                                \
    pthread_mutex_lock(&lock);                                                                           \
    struct gpu *g = &gpus[index];                                                                        \
    settle(g);                                                                                           \
    statement;                                                                                           \
    pthread_mutex_unlock(&lock)

EXPORT void stub_set_range(unsigned index, double min_mw, double max_mw, double default_mw) {
    CHANGE(g->min_mw = min_mw; g->max_mw = max_mw; g->default_mw = g->limit_mw = default_mw);
}
EXPORT void stub_set_demand(unsigned index, double mw) { CHANGE(g->demand_mw = mw); }
EXPORT void stub_set_out_of_band(unsigned index, double mw) { CHANGE(g->out_of_band_mw = mw); }
EXPORT void stub_set_limit(unsigned index, double mw) { CHANGE(g->limit_mw = mw); }
EXPORT void stub_set_stuck(unsigned index, double mw) { CHANGE(g->stuck_mw = mw); }
EXPORT void stub_set_deaf(unsigned index, int deaf) { CHANGE(g->deaf = deaf); }
EXPORT void stub_set_persistence(unsigned index, int mode) { CHANGE(g->persistence = mode); }
EXPORT void stub_set_lost(unsigned index, int code) { CHANGE(g->lost_code = code); }

/* The driver is unloaded and loaded again: limits and counters start anew, NVML must be initialised. */
EXPORT void stub_reload(void) {
    for (unsigned index = 0; index < gpu_count; index++) {
        CHANGE(g->limit_mw = g->default_mw; g->energy_mj = 0);
    }
    pthread_mutex_lock(&lock);
    references = 0;
    pthread_mutex_unlock(&lock);
}
