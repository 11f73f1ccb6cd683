/* The `boxwright` command as one program: an interpreter that has started already.
 *
 *   launcher --freeze TARGET FALLBACK PYTHON SCRIPT PATH…
 *
 * starts the interpreter with PATH… as `sys.path`, runs SCRIPT, which loads what the command needs and leaves
 * `command`, a function of the arguments, the environment and whether SIGINT is to be heeded, and `sources`, the files that all was loaded from. Then
 * it writes TARGET: this program, with its memory behind it. TARGET maps that memory back to where it was and calls
 * `command`: nothing is initialised, read or unmarshalled again, and only the pages that are written to are copied.
 * Where a source has changed since, or the memory cannot be had, it executes FALLBACK with the same arguments.
 * Without arguments it says which Python is in it.
 *
 * What makes this hold:
 * - The program is not position-independent, and what libpython keeps is in its own .data and .bss and in memory that
 *   comes from here while freezing (`--wrap=malloc` and so on). The C library is a shared object: what it keeps is
 *   outside and is made anew at each start, as are the random addresses of libraries and stack.
 * - To the interpreter a start is what the child's side of fork(2) is, and is told so: PyOS_AfterFork_Child.
 * - While freezing no extension module is loaded from a file, as its address would be random.
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include <Python.h>
#include <internal/pycore_runtime.h>

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#if PY_VERSION_HEX >> 16 != 0x030b || !defined(__x86_64__)
#error "what a start has to put right was checked for Python 3.11 on x86-64 only"
#endif

#define PAGE 4096UL
#define SMALLEST 32UL
#define HEAP_AT 0x100000000000UL
#define HEAP_BYTES (64UL << 20)
#define PAGE_DOWN(address) ((uintptr_t)(address) & ~(PAGE - 1))
#define PAGE_UP(address) PAGE_DOWN((uintptr_t)(address) + PAGE - 1)

static const char MAGIC[8] = {'B', 'X', 'I', 'M', 'A', 'G', 'E', '1'};

/* The last bytes of the file. Offsets are from its beginning, and those of pages are multiples of PAGE. */
struct footer {
    uint64_t data_offset; /* from PAGE_DOWN(data_start) to PAGE_UP(_end) */
    uint64_t heap_offset;
    uint64_t heap_bytes;
    uint64_t sources_offset; /* struct source, then a path with a NUL, one after the other */
    uint64_t sources_bytes;
    char fallback[1024];
    char magic[sizeof MAGIC];
};

struct source {
    int64_t modified_ns;
    int64_t size;
    uint64_t path_bytes; /* a multiple of 8, with the NULs behind it */
};

extern char data_start[], _end[];

static PyObject *command;

/* ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool freezing;
static char *heap_next;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *old);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *old);

static bool is_frozen(const void *pointer)
{
    return (uintptr_t)pointer - HEAP_AT < HEAP_BYTES;
}

/* Sizes are powers of two. What stands before a block is its size, or, when it is free, the next free one. */
static void **free_blocks[sizeof(size_t) * 8];

static unsigned class_of(size_t size)
{
    return size <= SMALLEST ? (unsigned)__builtin_ctzl(SMALLEST) : 64 - (unsigned)__builtin_clzl(size - 1);
}

/* Memory that will be there again. */
static void *take_frozen(size_t size, size_t alignment)
{
    if (size > HEAP_BYTES)
        return NULL;
    unsigned class = class_of(size);
    void **block = free_blocks[class];
    if (block && alignment <= SMALLEST)
        free_blocks[class] = block[-1];
    else
        block = (void **)(((uintptr_t)heap_next + sizeof *block + alignment - 1) & ~(alignment - 1));
    size = 1UL << class;
    if ((uintptr_t)block >= (uintptr_t)heap_next) {
        if ((uintptr_t)block + size > HEAP_AT + HEAP_BYTES)
            return NULL;
        heap_next = (char *)block + size;
    }
    ((size_t *)block)[-1] = size;
    return block;
}

static void give_back(void *old)
{
    unsigned class = class_of(((size_t *)old)[-1]);
    ((void ***)old)[-1] = free_blocks[class];
    free_blocks[class] = old;
}

void *__wrap_malloc(size_t size)
{
    return freezing ? take_frozen(size, SMALLEST) : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!freezing)
        return __real_calloc(count, size);
    void *made = __builtin_mul_overflow(count, size, &bytes) ? NULL : take_frozen(bytes, SMALLEST);
    return made ? memset(made, 0, bytes) : NULL;
}

void __wrap_free(void *old)
{
    if (!is_frozen(old))
        __real_free(old);
    else if (freezing)
        give_back(old);
}

void *__wrap_realloc(void *old, size_t size)
{
    if (old && !is_frozen(old))
        return __real_realloc(old, size);
    size_t had = old ? ((size_t *)old)[-1] : 0;
    void *made = had && size <= had ? old : __wrap_malloc(size);
    if (made && made != old && had) {
        memcpy(made, old, had);
        __wrap_free(old);
    }
    return made;
}

static void *take_arena(void *context, size_t size)
{
    (void)context;
    if (freezing)
        return take_frozen(size, PAGE);
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return made == MAP_FAILED ? NULL : made;
}

static void free_arena(void *context, void *arena, size_t size)
{
    (void)context;
    if (!is_frozen(arena))
        (void)munmap(arena, size);
    else if (freezing)
        (void)memset(arena, 0, size);
}

static bool map_heap(void)
{
    return mmap((void *)HEAP_AT, HEAP_BYTES, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == (void *)HEAP_AT;
}

/* ── freezing ────────────────────────────────────────────────────────────────────────────────────────────────────── */

_Noreturn static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

/* Where /proc is not mounted, by the name it was executed by. */
static int open_itself(void)
{
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (self < 0)
        self = open((const char *)getauxval(AT_EXECFN), O_RDONLY | O_CLOEXEC);
    if (self < 0)
        give_up("/proc/self/exe");
    return self;
}

static void check(PyStatus status)
{
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
}

static void set_text(PyConfig *config, wchar_t **field, const char *text)
{
    check(PyConfig_SetBytesString(config, field, text));
}

/* As `python -I -S -X utf8` would. */
static void start_interpreter(const char *python, char **paths)
{
    PyPreConfig before;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    check(Py_PreInitialize(&before));
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.install_signal_handlers = 1;
    config.module_search_paths_set = 1;
    for (; *paths; paths++) {
        wchar_t *path = Py_DecodeLocale(*paths, NULL);
        check(PyWideStringList_Append(&config.module_search_paths, path));
    }
    set_text(&config, &config.executable, python);
    set_text(&config, &config.base_executable, python);
    set_text(&config, &config.program_name, python);
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

static void put(int fd, const void *bytes, size_t size)
{
    for (const char *at = bytes; size > 0;) {
        ssize_t done = write(fd, at, size);
        if (done < 0)
            give_up("write");
        at += done;
        size -= (size_t)done;
    }
}

static uint64_t position(int fd)
{
    off_t at = lseek(fd, 0, SEEK_END);
    if (at < 0)
        give_up("lseek");
    return (uint64_t)at;
}

static const char zeros[PAGE];

static uint64_t pad_to_page(int fd)
{
    uint64_t at = position(fd);
    put(fd, zeros, PAGE_UP(at) - at);
    return PAGE_UP(at);
}

static void put_itself(int fd)
{
    int self = open_itself();
    ssize_t copied;
    do
        copied = sendfile(fd, self, NULL, 1 << 30);
    while (copied > 0);
    if (copied < 0)
        give_up("sendfile");
    (void)close(self);
}

static void put_source(int fd, const char *path)
{
    struct stat found;
    if (stat(path, &found) < 0)
        give_up(path);
    size_t length = strlen(path);
    struct source source = {
        .modified_ns = found.st_mtim.tv_sec * 1000000000L + found.st_mtim.tv_nsec,
        .size = found.st_size,
        .path_bytes = (length + 8) & ~7UL,
    };
    put(fd, &source, sizeof source);
    put(fd, path, length);
    put(fd, zeros, source.path_bytes - length);
}

static void put_sources(int fd, PyObject *sources)
{
    for (Py_ssize_t i = 0; i < PyList_Size(sources); i++) {
        const char *path = PyUnicode_AsUTF8(PyList_GetItem(sources, i));
        if (!path)
            exit(1);
        put_source(fd, path);
    }
}

static void run_script(const char *path)
{
    FILE *script = fopen(path, "r");
    if (!script)
        give_up(path);
    if (PyRun_SimpleFileEx(script, path, 1) != 0)
        exit(1);
}

/* Nothing of Python may happen between `freezing = false` and the last page: it would be half in what is frozen. */
static int freeze(const char *target, const char *fallback, const char *python, const char *script, char **paths)
{
    PyObjectArenaAllocator arenas = {NULL, take_arena, free_arena};
    struct footer footer = {0};
    if (strlen(fallback) >= sizeof footer.fallback || !map_heap())
        give_up("the memory to freeze");
    heap_next = (char *)HEAP_AT;
    freezing = true;
    PyObject_SetArenaAllocator(&arenas);
    start_interpreter(python, paths);
    run_script(script);
    PyObject *globals = PyModule_GetDict(PyImport_AddModule("__main__"));
    command = PyDict_GetItemString(globals, "command");
    PyObject *sources = PyDict_GetItemString(globals, "sources");
    if (!command || !sources)
        give_up("`command` and `sources`");
    int fd = open(target, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (fd < 0)
        give_up(target);
    put_itself(fd);
    footer.sources_offset = position(fd);
    put_sources(fd, sources);
    footer.sources_bytes = position(fd) - footer.sources_offset;
    freezing = false;
    footer.data_offset = pad_to_page(fd);
    put(fd, zeros, (uintptr_t)data_start - PAGE_DOWN(data_start)); /* of this page that is the dynamic linker's */
    put(fd, data_start, PAGE_UP(_end) - (uintptr_t)data_start);
    footer.heap_offset = pad_to_page(fd);
    footer.heap_bytes = PAGE_UP(heap_next) - HEAP_AT;
    put(fd, (void *)HEAP_AT, footer.heap_bytes);
    strcpy(footer.fallback, fallback);
    memcpy(footer.magic, MAGIC, sizeof MAGIC);
    put(fd, &footer, sizeof footer);
    return close(fd);
}

/* ── starting ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool read_footer(int fd, struct footer *footer)
{
    off_t end = lseek(fd, 0, SEEK_END);
    return end > (off_t)sizeof *footer &&
           pread(fd, footer, sizeof *footer, end - (off_t)sizeof *footer) == (ssize_t)sizeof *footer &&
           memcmp(footer->magic, MAGIC, sizeof MAGIC) == 0;
}

static bool is_unchanged(const struct source *source, const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && found.st_size == source->size &&
           found.st_mtim.tv_sec * 1000000000L + found.st_mtim.tv_nsec == source->modified_ns;
}

static bool are_unchanged(int fd, const struct footer *footer)
{
    uint64_t first = PAGE_DOWN(footer->sources_offset);
    size_t size = footer->sources_offset + footer->sources_bytes - first;
    char *at = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, (off_t)first);
    if (at == MAP_FAILED)
        return false;
    at += footer->sources_offset - first;
    for (const char *end = at + footer->sources_bytes; at < end;) {
        struct source source;
        memcpy(&source, at, sizeof source);
        if (!is_unchanged(&source, at + sizeof source))
            return false;
        at += sizeof source + source.path_bytes;
    }
    return true;
}

static bool map_pages(int fd, uintptr_t at, size_t size, uint64_t offset, int how)
{
    return mmap((void *)at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | how, fd, (off_t)offset) == (void *)at;
}

/* The page that .data begins in belongs to the dynamic linker too, so what is ours of it is copied. What the linker
 * has copied from the C library into our .bss stays: those four are all (`native/Makefile` sees to it).
 */
static bool map_memory(int fd, const struct footer *footer)
{
    char **variables = environ;
    FILE *in = stdin, *out = stdout, *err = stderr;
    uintptr_t first = PAGE_UP(data_start);
    size_t head = first - (uintptr_t)data_start;
    uint64_t head_offset = footer->data_offset + ((uintptr_t)data_start & (PAGE - 1));
    if (!map_pages(fd, HEAP_AT, footer->heap_bytes, footer->heap_offset, MAP_FIXED_NOREPLACE))
        return false;
    if (pread(fd, data_start, head, (off_t)head_offset) != (ssize_t)head ||
        !map_pages(fd, first, PAGE_UP(_end) - first, footer->data_offset + first - PAGE_DOWN(data_start),
                   MAP_FIXED))
        give_up("boxwright: its own memory"); /* half of it is foreign now */
    environ = variables;
    stdin = in;
    stdout = out;
    stderr = err;
    return true;
}

/* What fork(2) would have kept, and a new process has not: the key of the thread's state, and the thread's numbers. */
static void adopt_thread(void)
{
    PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Main());
    Py_tss_t *key = &_PyRuntime.gilstate.autoTSSkey;
    key->_is_initialized = 0;
    if (PyThread_tss_create(key) != 0 || PyThread_tss_set(key, thread) != 0)
        give_up("boxwright: thread-specific storage");
    thread->thread_id = PyThread_get_thread_ident();
    thread->native_thread_id = PyThread_get_thread_native_id();
    PyOS_AfterFork_Child();
}

static PyObject *list_of_arguments(char **argv)
{
    PyObject *list = PyList_New(0);
    for (; list && *argv; argv++) {
        PyObject *word = PyUnicode_DecodeFSDefault(*argv);
        if (!word || PyList_Append(list, word) < 0)
            return NULL;
        Py_DECREF(word);
    }
    return list;
}

/* As posix.environ: a name that comes twice has its first value. */
static PyObject *dict_of_environment(void)
{
    PyObject *dict = PyDict_New();
    for (char **variable = environ; dict && variable && *variable; variable++) {
        const char *equals = strchr(*variable, '=');
        if (!equals)
            continue;
        PyObject *name = PyBytes_FromStringAndSize(*variable, equals - *variable);
        PyObject *value = PyBytes_FromString(equals + 1);
        if (!name || !value || !PyDict_SetDefault(dict, name, value))
            return NULL;
        Py_DECREF(name);
        Py_DECREF(value);
    }
    return dict;
}

static int start(char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    adopt_thread();
    PyObject *arguments = list_of_arguments(argv);
    PyObject *environment = dict_of_environment();
    struct sigaction interrupt;
    (void)sigaction(SIGINT, NULL, &interrupt);
    PyObject *interruptible = interrupt.sa_handler == SIG_DFL ? Py_True : Py_False;
    if (arguments && environment && PyObject_CallFunctionObjArgs(command, arguments, environment, interruptible, NULL))
        return 0;
    PyErr_Print();
    return 1;
}

int main(int argc, char **argv)
{
    struct footer footer;
    int self = open_itself();
    bool frozen = read_footer(self, &footer);
    if (!frozen && argc > 6 && strcmp(argv[1], "--freeze") == 0)
        return freeze(argv[2], argv[3], argv[4], argv[5], argv + 6);
    if (frozen && are_unchanged(self, &footer) && map_memory(self, &footer)) {
        (void)close(self);
        return start(argv);
    }
    if (!frozen) {
        (void)puts(Py_GetVersion());
        return 0;
    }
    /* The interpreter of a script is told the script's name, not the one that was called. */
    if (argc > 0)
        (void)setenv("BOXWRIGHT_CALLED_AS", argv[0], 1);
    (void)execv(footer.fallback, argv);
    give_up(footer.fallback);
}
