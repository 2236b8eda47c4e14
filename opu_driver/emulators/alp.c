/* A stand-in for the ALP-4 library of ViALUX: its entry points and ABI, on a DMD that exists in
 * this file only. Sequences take the time that they would take, memory runs out, wrong calls get
 * the library's own error codes, and every picture shown is published (emu_*).
 *
 * There is no thread: pictures follow a schedule, and every call first catches up with the clock
 * (`advance`). The rules are those of the comments in ViALUX's public header alp.h and of its API
 * description; `long` is the platform's, as there.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API __attribute__((visibility("default")))
typedef unsigned long ALP_ID;

enum {
    ALP_OK = 0, ALP_NOT_ONLINE = 1001, ALP_NOT_IDLE, ALP_NOT_AVAILABLE, ALP_NOT_READY,
    ALP_PARM_INVALID, ALP_ADDR_INVALID, ALP_MEMORY_FULL, ALP_SEQ_IN_USE, ALP_HALTED,
    ALP_ERROR_INIT, ALP_ERROR_COMM, ALP_DEVICE_REMOVED,
    ALP_DEV_BUSY = 1100, ALP_DEV_READY, ALP_DEV_IDLE,
    ALP_PROJ_ACTIVE = 1200, ALP_PROJ_IDLE,
    ALP_DEVICE_NUMBER = 2000, ALP_VERSION, ALP_DEV_STATE, ALP_AVAIL_MEMORY,
    ALP_SYNCH_POLARITY, ALP_TRIGGER_EDGE, ALP_LEVEL_HIGH, ALP_LEVEL_LOW, ALP_EDGE_FALLING,
    ALP_EDGE_RISING,
    ALP_DEV_DMDTYPE = 2021, ALP_DEV_DISPLAY_HEIGHT = 2057, ALP_DEV_DISPLAY_WIDTH = 2058,
    ALP_SEQ_REPEAT = 2100, ALP_FIRSTFRAME, ALP_LASTFRAME, ALP_BITNUM, ALP_BIN_MODE,
    ALP_BIN_NORMAL, ALP_BIN_UNINTERRUPTED, ALP_DATA_FORMAT = 2110,
    ALP_BITPLANES = 2200, ALP_PICNUM, ALP_PICTURE_TIME = 2203, ALP_MIN_PICTURE_TIME = 2211,
    ALP_MAX_PICTURE_TIME = 2213,
    ALP_PROJ_MODE = 2300, ALP_MASTER, ALP_SLAVE, ALP_PROJ_STATE = 2400,
};
enum { MSB_ALIGN, LSB_ALIGN, BINARY_TOPDOWN, BINARY_BOTTOMUP };

#define SEQUENCES 256
#define MAX_PICTURE_TIME 10000000L /* us */
#define LONGEST_LOOK_S 5.0

typedef struct {
    int used;
    long pictures, repeat, first, last, uninterrupted, format, picture_time;
    unsigned char *bits; /* [picture][row][byte], packed */
} Sequence;

typedef struct { /* one picture as it was shown */
    double time_s;
    int edge;
    unsigned char *bits;
} Shown;

enum Fault { LOST_EDGE = 1, DROPPED_PICTURE, DOUBLED_PICTURE };

static struct {
    long serial, dmd_type, rows, columns, memory, min_picture_time, keeps_packed;
    long polarity, edge_of_trigger, mode;
    int plugged, allocated, removed;
    ALP_ID id;
    Sequence sequences[SEQUENCES];
    long memory_used;
    /* what is being shown */
    Sequence *running;
    int forever;
    long next, left, period_us;    /* frame to come, frames left (finite), its period */
    double due_s, busy_until_s;    /* when it comes; until when the one before it lasts */
    /* what was shown */
    Shown *ring;
    long remembered;
    long long count;
    unsigned char *mirrors;
    /* who looks at the mirrors */
    int watched;
    long long awaited; /* the picture that a call waits to be seen; -1 for none */
    long long seen;    /* the pictures before this one have been seen */
    /* trigger input, faults */
    long long edges_lost;
    int fault;
    long long fault_at;
    char failing[32];
    long failing_code;
} emu;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void sleep_s(double seconds) {
    struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (time_t)seconds))};
    if (seconds > 0) nanosleep(&t, NULL);
}

static size_t line_bytes(void) { return (emu.columns + 7) / 8; }
static size_t picture_bytes(void) { return emu.rows * line_bytes(); }

/* Bytes of one packed row in user memory (API description, AlpSeqPut); 0 where it is not known. */
static size_t packed_row(void) {
    return emu.columns == 1024 ? 128 : emu.columns == 1920 ? 256 : 0;
}

static void publish(double time_s, int edge, const unsigned char *bits) {
    Shown *slot = &emu.ring[emu.count % emu.remembered];
    if (!slot->bits) slot->bits = malloc(picture_bytes());
    if (bits) memcpy(emu.mirrors, bits, picture_bytes());
    memcpy(slot->bits, emu.mirrors, picture_bytes());
    slot->time_s = time_s;
    slot->edge = edge;
    emu.count++;
}

/* Shows the frame to come at `time_s`, and moves on to the one after it. */
static void show(double time_s) {
    int fault = emu.fault && emu.count == emu.fault_at ? emu.fault : 0;
    const unsigned char *bits = emu.running->bits + emu.next * picture_bytes();
    publish(time_s, fault != LOST_EDGE, fault == DROPPED_PICTURE ? NULL : bits);
    if (fault) emu.fault = 0;
    emu.busy_until_s = time_s + 1e-6 * emu.period_us;
    emu.due_s = emu.busy_until_s;
    if (fault == DOUBLED_PICTURE) return;
    emu.next = emu.next == emu.running->last ? emu.running->first : emu.next + 1;
    if (!emu.forever) emu.left--;
}

/* Brings the DMD up to now: shows what is due, ends what is over. */
static void advance(void) {
    double now = now_s();
    if (!emu.running) return;
    if (emu.mode == ALP_MASTER)
        while ((emu.forever || emu.left) && emu.due_s <= now) show(emu.due_s);
    if (!emu.forever && !emu.left && now >= emu.busy_until_s) emu.running = NULL;
}

static int gone(void) { return emu.removed || !emu.plugged; }

static long enter(const char *function, ALP_ID device) {
    pthread_mutex_lock(&lock);
    if (emu.failing_code && !strcmp(function, emu.failing)) {
        long code = emu.failing_code;
        emu.failing_code = 0;
        return code;
    }
    if (!emu.allocated || device != emu.id) return ALP_NOT_AVAILABLE;
    if (gone()) return ALP_DEVICE_REMOVED;
    advance();
    return ALP_OK;
}

static long leave(long code) {
    pthread_mutex_unlock(&lock);
    return code;
}

#define ENTER(function) \
    do { long code = enter(function, device); if (code) return leave(code); } while (0)

static Sequence *sequence_of(ALP_ID id) {
    if (id < 1 || id > SEQUENCES || !emu.sequences[id - 1].used) return NULL;
    return &emu.sequences[id - 1];
}

static void forget(Sequence *sequence) {
    emu.memory_used -= sequence->pictures;
    free(sequence->bits);
    memset(sequence, 0, sizeof *sequence);
}

/* ------------------------------------------------------------------------------- devices */

API long AlpDevAlloc(long number, long flag, ALP_ID *device) {
    (void)flag;
    pthread_mutex_lock(&lock);
    if (!device) return leave(ALP_ADDR_INVALID);
    if (!emu.plugged || (number && number != emu.serial)) return leave(ALP_NOT_ONLINE);
    if (emu.allocated) return leave(number ? ALP_NOT_READY : ALP_NOT_ONLINE);
    emu.allocated = 1;
    emu.removed = 0;
    emu.mode = ALP_MASTER;
    emu.polarity = ALP_LEVEL_HIGH;
    emu.edge_of_trigger = ALP_EDGE_RISING;
    *device = ++emu.id;
    return leave(ALP_OK);
}

static void halt(void) {
    emu.running = NULL;
    emu.forever = 0;
    emu.left = 0;
}

API long AlpDevHalt(ALP_ID device) {
    ENTER("AlpDevHalt");
    halt();
    memset(emu.mirrors, 0, picture_bytes());
    return leave(ALP_OK);
}

API long AlpDevFree(ALP_ID device) {
    long code = enter("AlpDevFree", device);
    if (code == ALP_NOT_AVAILABLE) return leave(code);
    if (code == ALP_OK && emu.running) return leave(ALP_NOT_IDLE);
    halt();
    for (int i = 0; i < SEQUENCES; i++)
        if (emu.sequences[i].used) forget(&emu.sequences[i]);
    emu.allocated = 0;
    return leave(code);
}

API long AlpDevControl(ALP_ID device, long type, long value) {
    ENTER("AlpDevControl");
    if (emu.running) return leave(ALP_NOT_IDLE);
    if (type == ALP_SYNCH_POLARITY && (value == ALP_LEVEL_HIGH || value == ALP_LEVEL_LOW))
        emu.polarity = value;
    else if (type == ALP_TRIGGER_EDGE && (value == ALP_EDGE_RISING || value == ALP_EDGE_FALLING))
        emu.edge_of_trigger = value;
    else
        return leave(ALP_PARM_INVALID);
    return leave(ALP_OK);
}

API long AlpDevInquire(ALP_ID device, long type, long *value) {
    ENTER("AlpDevInquire");
    if (!value) return leave(ALP_ADDR_INVALID);
    switch (type) {
    case ALP_DEVICE_NUMBER: *value = emu.serial; break;
    case ALP_VERSION: *value = 0x04030000; break;
    case ALP_DEV_STATE: *value = emu.running ? ALP_DEV_BUSY : ALP_DEV_IDLE; break;
    case ALP_AVAIL_MEMORY: *value = emu.memory - emu.memory_used; break;
    case ALP_DEV_DMDTYPE: *value = emu.dmd_type; break;
    case ALP_DEV_DISPLAY_HEIGHT: *value = emu.rows; break;
    case ALP_DEV_DISPLAY_WIDTH: *value = emu.columns; break;
    case ALP_SYNCH_POLARITY: *value = emu.polarity; break;
    case ALP_TRIGGER_EDGE: *value = emu.edge_of_trigger; break;
    default: return leave(ALP_PARM_INVALID);
    }
    return leave(ALP_OK);
}

/* ----------------------------------------------------------------------------- sequences */

API long AlpSeqAlloc(ALP_ID device, long planes, long pictures, ALP_ID *sequence) {
    ENTER("AlpSeqAlloc");
    if (planes != 1 || pictures < 1) return leave(ALP_PARM_INVALID); /* grey is not emulated */
    if (!sequence) return leave(ALP_ADDR_INVALID);
    int i = 0;
    while (i < SEQUENCES && emu.sequences[i].used) i++;
    unsigned char *bits = NULL;
    if (i < SEQUENCES && pictures <= emu.memory - emu.memory_used)
        bits = calloc(pictures, picture_bytes());
    if (!bits) return leave(ALP_MEMORY_FULL);
    emu.sequences[i] = (Sequence){1, pictures, 1, 0, pictures - 1, 0, MSB_ALIGN, 33334, bits};
    emu.memory_used += pictures;
    *sequence = i + 1;
    return leave(ALP_OK);
}

#define SEQUENCE(function) \
    ENTER(function); \
    Sequence *seq = sequence_of(id); \
    if (!seq) return leave(ALP_NOT_AVAILABLE)

API long AlpSeqFree(ALP_ID device, ALP_ID id) {
    SEQUENCE("AlpSeqFree");
    if (seq == emu.running) return leave(ALP_SEQ_IN_USE);
    forget(seq);
    return leave(ALP_OK);
}

/* Without the dark phase between pictures they follow each other more closely. */
static long shortest(const Sequence *seq) {
    return seq->uninterrupted ? emu.min_picture_time : 2 * emu.min_picture_time;
}

API long AlpSeqControl(ALP_ID device, ALP_ID id, long type, long value) {
    SEQUENCE("AlpSeqControl");
    if (seq == emu.running) return leave(ALP_SEQ_IN_USE);
    int ok = 0;
    switch (type) {
    case ALP_SEQ_REPEAT: if ((ok = value >= 1)) seq->repeat = value; break;
    case ALP_FIRSTFRAME: if ((ok = value >= 0 && value <= seq->last)) seq->first = value; break;
    case ALP_LASTFRAME:
        if ((ok = value >= seq->first && value < seq->pictures)) seq->last = value;
        break;
    case ALP_BITNUM: ok = value == 1; break;
    case ALP_BIN_MODE:
        if ((ok = value == ALP_BIN_NORMAL || value == ALP_BIN_UNINTERRUPTED))
            seq->uninterrupted = value == ALP_BIN_UNINTERRUPTED;
        break;
    case ALP_DATA_FORMAT:
        ok = value == MSB_ALIGN || value == LSB_ALIGN ||
             (value == BINARY_TOPDOWN && emu.keeps_packed && packed_row());
        if (ok) seq->format = value;
        break;
    }
    return leave(ok ? ALP_OK : ALP_PARM_INVALID);
}

API long AlpSeqTiming(ALP_ID device, ALP_ID id, long illuminate, long picture, long synch_delay,
                      long synch_width, long trigger_delay) {
    (void)illuminate; (void)trigger_delay;
    SEQUENCE("AlpSeqTiming");
    if (seq == emu.running) return leave(ALP_SEQ_IN_USE);
    if (picture == 0) picture = 33334; /* ALP_DEFAULT */
    if (picture < shortest(seq) || picture > MAX_PICTURE_TIME) return leave(ALP_PARM_INVALID);
    if (synch_delay < 0 || synch_width < 0 || synch_width > picture)
        return leave(ALP_PARM_INVALID);
    seq->picture_time = picture;
    return leave(ALP_OK);
}

API long AlpSeqInquire(ALP_ID device, ALP_ID id, long type, long *value) {
    SEQUENCE("AlpSeqInquire");
    if (!value) return leave(ALP_ADDR_INVALID);
    switch (type) {
    case ALP_BITPLANES: *value = 1; break;
    case ALP_PICNUM: *value = seq->pictures; break;
    case ALP_PICTURE_TIME: *value = seq->picture_time; break;
    case ALP_MIN_PICTURE_TIME: *value = shortest(seq); break;
    case ALP_MAX_PICTURE_TIME: *value = MAX_PICTURE_TIME; break;
    case ALP_FIRSTFRAME: *value = seq->first; break;
    case ALP_LASTFRAME: *value = seq->last; break;
    default: return leave(ALP_PARM_INVALID);
    }
    return leave(ALP_OK);
}

/* One picture of user data into packed bits; a byte a pixel is thresholded at its top bit. */
static void store(const Sequence *seq, unsigned char *bits, const unsigned char *data) {
    for (long row = 0; row < emu.rows; row++, bits += line_bytes()) {
        if (seq->format == BINARY_TOPDOWN) {
            memcpy(bits, data + row * packed_row(), line_bytes());
            continue;
        }
        int mask = seq->format == LSB_ALIGN ? 0x01 : 0x80;
        memset(bits, 0, line_bytes());
        for (long column = 0; column < emu.columns; column++)
            if (data[row * emu.columns + column] & mask) bits[column / 8] |= 0x80 >> column % 8;
    }
}

API long AlpSeqPut(ALP_ID device, ALP_ID id, long offset, long count, void *data) {
    SEQUENCE("AlpSeqPut");
    if (!data) return leave(ALP_ADDR_INVALID);
    if (seq == emu.running) return leave(ALP_SEQ_IN_USE);
    if (!count) count = seq->pictures - offset; /* ALP_DEFAULT: all that follow */
    if (offset < 0 || count < 1 || offset + count > seq->pictures) return leave(ALP_PARM_INVALID);
    size_t row = seq->format == BINARY_TOPDOWN ? packed_row() : (size_t)emu.columns;
    size_t step = emu.rows * row;
    for (long i = 0; i < count; i++)
        store(seq, seq->bits + (offset + i) * picture_bytes(), (unsigned char *)data + i * step);
    return leave(ALP_OK);
}

/* ---------------------------------------------------------------------------- projection */

static long start(Sequence *seq, int forever) {
    if (emu.running) return ALP_NOT_IDLE; /* the waiting position is not emulated */
    if (emu.mode == ALP_MASTER && seq->picture_time < shortest(seq)) return ALP_PARM_INVALID;
    emu.running = seq;
    emu.forever = forever;
    emu.next = seq->first;
    emu.left = (seq->last - seq->first + 1) * seq->repeat;
    emu.period_us = seq->picture_time;
    emu.due_s = emu.busy_until_s = now_s();
    return ALP_OK;
}

API long AlpProjStart(ALP_ID device, ALP_ID id) {
    SEQUENCE("AlpProjStart");
    return leave(start(seq, 0));
}

/* Until whoever looks at the mirrors has seen a picture: light that is computed is slower than the
 * time for which a driver that steps through its pictures waits before it exposes a camera. */
static void wait_until_seen(long long index) {
    double end_s = now_s() + LONGEST_LOOK_S;
    emu.awaited = index;
    while (emu.watched && emu.seen <= index && now_s() < end_s) {
        advance();
        leave(0);
        sleep_s(2e-4);
        pthread_mutex_lock(&lock);
    }
    emu.awaited = -1;
}

API long AlpProjStartCont(ALP_ID device, ALP_ID id) {
    SEQUENCE("AlpProjStartCont");
    long long first = emu.count;
    long code = start(seq, 1);
    if (!code && emu.watched) wait_until_seen(first);
    return leave(code);
}

API long AlpProjHalt(ALP_ID device) {
    ENTER("AlpProjHalt");
    if (emu.running && emu.mode == ALP_MASTER) { /* the picture that is shown is finished */
        emu.forever = 0;
        emu.left = 0;
    } else {
        halt();
    }
    return leave(ALP_OK);
}

API long AlpProjWait(ALP_ID device) {
    for (;;) {
        ENTER("AlpProjWait");
        if (!emu.running) return leave(ALP_OK);
        if (emu.forever) return leave(ALP_PARM_INVALID);
        leave(ALP_OK);
        sleep_s(2e-4);
    }
}

API long AlpProjControl(ALP_ID device, long type, long value) {
    ENTER("AlpProjControl");
    if (emu.running) return leave(ALP_NOT_IDLE);
    if (type != ALP_PROJ_MODE || (value != ALP_MASTER && value != ALP_SLAVE))
        return leave(ALP_PARM_INVALID);
    emu.mode = value;
    return leave(ALP_OK);
}

API long AlpProjInquire(ALP_ID device, long type, long *value) {
    ENTER("AlpProjInquire");
    if (!value) return leave(ALP_ADDR_INVALID);
    if (type == ALP_PROJ_STATE)
        *value = emu.running ? ALP_PROJ_ACTIVE : ALP_PROJ_IDLE;
    else if (type == ALP_PROJ_MODE)
        *value = emu.mode;
    else
        return leave(ALP_PARM_INVALID);
    return leave(ALP_OK);
}

/* ------------------------------------------------- the other side: what only the emulator has */

/* Builds the DMD and plugs it in; to be called once, before anything else. */
API int emu_create(long serial, long dmd_type, long rows, long columns, long memory,
                   long min_picture_time, int keeps_packed, long remembered) {
    emu.serial = serial;
    emu.dmd_type = dmd_type;
    emu.rows = rows;
    emu.columns = columns;
    emu.memory = memory;
    emu.min_picture_time = min_picture_time;
    emu.keeps_packed = keeps_packed;
    emu.remembered = remembered;
    emu.ring = calloc(remembered, sizeof *emu.ring);
    emu.mirrors = calloc(1, picture_bytes());
    emu.plugged = 1;
    emu.awaited = -1;
    return emu.ring && emu.mirrors;
}

API void emu_plug(int plugged) {
    pthread_mutex_lock(&lock);
    advance();
    emu.plugged = plugged;
    if (!plugged) {
        halt();
        emu.removed = 1;
    }
    leave(0);
}

/* The next call of `function` does nothing and returns `code`. */
API void emu_fail(const char *function, long code) {
    pthread_mutex_lock(&lock);
    strncpy(emu.failing, function, sizeof emu.failing - 1);
    emu.failing_code = code;
    leave(0);
}

/* Something goes wrong with the picture that is shown `later` pictures from now. */
API void emu_fault(int kind, long later) {
    pthread_mutex_lock(&lock);
    advance();
    emu.fault = kind;
    emu.fault_at = emu.count + later;
    leave(0);
}

/* Edges on the trigger input, now; those that nothing waits for are lost. Returns how many. */
API long long emu_edge(void) {
    pthread_mutex_lock(&lock);
    advance();
    double now = now_s();
    int waiting = emu.running && emu.mode == ALP_SLAVE && (emu.forever || emu.left) &&
                  now >= emu.busy_until_s;
    if (waiting)
        show(now);
    else
        emu.edges_lost++;
    leave(0);
    return emu.edges_lost;
}

API long long emu_count(void) {
    pthread_mutex_lock(&lock);
    advance();
    leave(0);
    return emu.count;
}

/* Picture number `index` since emu_create: 1 if it was shown, 0 if not within the time, -1 if it
 * is forgotten. */
API int emu_shown(long long index, double timeout_s, double *time_s, int *edge,
                  unsigned char *bits) {
    double end_s = now_s() + timeout_s;
    for (;;) {
        pthread_mutex_lock(&lock);
        advance();
        if (index < emu.count - emu.remembered) return (int)leave(-1);
        if (index < emu.count) {
            const Shown *shown = &emu.ring[index % emu.remembered];
            *time_s = shown->time_s;
            *edge = shown->edge;
            memcpy(bits, shown->bits, picture_bytes());
            return (int)leave(1);
        }
        double now = now_s();
        double pause_s = emu.running && emu.mode == ALP_MASTER ? emu.due_s - now : 5e-4;
        leave(0);
        if (now >= end_s) return 0;
        if (pause_s > 5e-4) pause_s = 5e-4;
        sleep_s(pause_s < end_s - now ? pause_s : end_s - now);
    }
}

/* Somebody begins or ends to look at the mirrors, and will tell what was seen. */
API void emu_watch(int watched) {
    pthread_mutex_lock(&lock);
    advance();
    emu.watched = watched;
    emu.seen = emu.count;
    leave(0);
}

/* All pictures up to this one have been seen. */
API void emu_saw(long long index) {
    pthread_mutex_lock(&lock);
    emu.seen = index + 1;
    leave(0);
}

/* The picture that a call waits to be seen; -1 for none. */
API long long emu_awaited(void) {
    pthread_mutex_lock(&lock);
    long long awaited = emu.awaited;
    leave(0);
    return awaited;
}

API void emu_mirrors(unsigned char *bits) {
    pthread_mutex_lock(&lock);
    advance();
    memcpy(bits, emu.mirrors, picture_bytes());
    leave(0);
}
