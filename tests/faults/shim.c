/* A disk and a clock that can be told to fail, for a real server: LD_PRELOAD this, with HASHPIT_FAULTS naming a control file.
 *
 * The control file is shared memory, written by tests/faults/shim.py while the server runs. Only files of the journal are
 * concerned, whatever process of the server writes them; everything else goes straight through.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* In the order of FIELDS in shim.py. Numbers of what happened are counted here, too. */
struct control {
    int64_t clock_ns;      /* added to the real time */
    int64_t sync_errno;    /* what fsync and fdatasync fail with; 0: they work */
    int64_t write_errno;   /* what pwrite fails with; 0: it works */
    int64_t sync_delay_us; /* how long a sync takes in addition */
    int64_t writes_left;   /* die by SIGKILL half way through this write, counted from 1; 0: never */
    int64_t syncs_failed;
    int64_t writes_failed;
};

static struct control none;
static struct control *control = &none;

__attribute__((constructor)) static void open_control(void) {
    const char *path = getenv("HASHPIT_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *found = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED) control = found;
    close(fd);
}

static int of_journal(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return strstr(path, "/journal.db") != NULL;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int sync_fails(int fd) {
    if ((control->sync_errno || control->sync_delay_us) && of_journal(fd)) {
        if (control->sync_delay_us) usleep((useconds_t)control->sync_delay_us);
        if (control->sync_errno) {
            __atomic_add_fetch(&control->syncs_failed, 1, __ATOMIC_SEQ_CST);
            errno = (int)control->sync_errno;
            return 1;
        }
    }
    return 0;
}

int fsync(int fd) { return sync_fails(fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return sync_fails(fd) ? -1 : REAL(fdatasync)(fd); }

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    if ((control->write_errno || control->writes_left) && of_journal(fd)) {
        if (control->writes_left && __atomic_sub_fetch(&control->writes_left, 1, __ATOMIC_SEQ_CST) == 0) {
            REAL(pwrite)(fd, data, size / 2, at);
            kill(getpid(), SIGKILL);
        }
        if (control->write_errno) {
            __atomic_add_fetch(&control->writes_failed, 1, __ATOMIC_SEQ_CST);
            errno = (int)control->write_errno;
            return -1;
        }
    }
    return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, (off_t)at); }

static void step(int64_t *seconds, int64_t *nanoseconds) {
    int64_t total = *seconds * 1000000000 + *nanoseconds + control->clock_ns;
    *seconds = total / 1000000000;
    *nanoseconds = total % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int failed = real(clock, now);
    if (!failed && control->clock_ns && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t seconds = now->tv_sec, nanoseconds = now->tv_nsec;
        step(&seconds, &nanoseconds);
        now->tv_sec = seconds;
        now->tv_nsec = nanoseconds;
    }
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
