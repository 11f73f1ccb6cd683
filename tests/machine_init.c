/*
 * The least that a guest's first process can be, for tests of the machine alone: it loads the modules of its initramfs
 * and does what it is told on the port, a line each: `read PATH`, `write PATH TEXT`, `mount TYPE SOURCE` (on /mnt),
 * `time`, `reboot`. It answers with a line, an errno and a text.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char failures[512];

static void load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
		snprintf(failures + strlen(failures), sizeof failures - strlen(failures), " %s: %s", path, strerror(errno));
	close(fd);
}

static void load_all(void)
{
	char line[256];
	FILE *modules = fopen("/modules", "re");

	while (modules && fgets(line, sizeof line, modules)) {
		line[strcspn(line, "\n")] = 0;
		load(line);
	}
}

static int open_port(const char *wanted)
{
	DIR *ports = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	int port = -1;

	while (ports && port < 0 && (entry = readdir(ports))) {
		char path[300], name[64] = "";
		FILE *file;

		snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
		if (!(file = fopen(path, "re")))
			continue;
		if (fgets(name, sizeof name, file))
			name[strcspn(name, "\n")] = 0;
		fclose(file);
		snprintf(path, sizeof path, "/dev/%s", entry->d_name);
		if (strcmp(name, wanted) == 0)
			port = open(path, O_RDWR | O_CLOEXEC);
	}
	if (ports)
		closedir(ports);
	return port;
}

static void answer(int port, int status, const char *text)
{
	dprintf(port, "%d %s\n", status < 0 ? errno : 0, text);
}

static void read_line(int port, const char *path)
{
	char text[512] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	text[strcspn(text, "\n")] = 0;
	answer(port, got < 0 ? -1 : 0, text);
	close(fd);
}

static void write_text(int port, const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	ssize_t put = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (put >= 0 && fsync(fd) < 0 && errno != EINVAL)
		put = -1;
	answer(port, put < 0 ? -1 : 0, "");
	close(fd);
}

static void tell_time(int port)
{
	struct timespec now;
	char text[64];

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(text, sizeof text, "%ld.%06ld", (long)now.tv_sec, now.tv_nsec / 1000);
	answer(port, 0, text);
}

/* On /mnt, read-only where the device is, as mount(8) does it. */
static int mount_as_can_be(const char *type, const char *source)
{
	if (mount(source, "/mnt", type, 0, "") == 0)
		return 0;
	return errno == EACCES || errno == EROFS ? mount(source, "/mnt", type, MS_RDONLY, "") : -1;
}

static void obey(int port, char *line)
{
	char *verb = strtok(line, " "), *first = strtok(NULL, " "), *second = strtok(NULL, "");

	if (verb && strcmp(verb, "read") == 0 && first)
		read_line(port, first);
	else if (verb && strcmp(verb, "write") == 0 && first && second)
		write_text(port, first, second);
	else if (verb && strcmp(verb, "mount") == 0 && first && second)
		answer(port, mount_as_can_be(first, second), "");
	else if (verb && strcmp(verb, "time") == 0)
		tell_time(port);
	else if (verb && strcmp(verb, "reboot") == 0)
		reboot(RB_AUTOBOOT);
	else
		dprintf(port, "%d what?\n", ENOSYS);
}

int main(void)
{
	static const char *const places[][2] = {{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}};
	char line[512];
	FILE *orders;
	int port;

	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		mkdir(places[i][0], 0755);
		mount(places[i][1], places[i][0], places[i][1], 0, "");
	}
	mkdir("/mnt", 0755);
	load_all();
	while ((port = open_port("boxwright")) < 0)
		usleep(1000);
	dprintf(port, "0 hello%s\n", failures);
	orders = fdopen(port, "r");
	for (;;) {
		if (orders && fgets(line, sizeof line, orders)) {
			line[strcspn(line, "\n")] = 0;
			obey(port, line);
		} else {
			clearerr(orders);
			usleep(10000);
		}
	}
}
