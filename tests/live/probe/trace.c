/* Begins to trace a process without stopping it: a number, or a child of its own. Ends with the number of the
 * kernel's error, 0 when it may. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>

int main(int count, char **words) {
    pid_t given = count > 1 ? atoi(words[1]) : 0;
    pid_t process = given ? given : fork();
    if (process == 0) {
        pause();
        return 0;
    }
    int error = ptrace(PTRACE_SEIZE, process, 0, 0) == 0 ? 0 : errno;
    if (!given)
        kill(process, SIGKILL);
    return error;
}
