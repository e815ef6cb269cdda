/* Preloaded into Grid Engine's daemons, which listen on every interface and cannot be told otherwise: with it, on
   127.0.0.1. Without headers and C library, so that tcc alone compiles it. */
struct name {
  unsigned short family, port;
  unsigned address; /* 0 is every interface */
};
long syscall(long number, ...);
int unsetenv(const char *variable);

int bind(int socket, struct name *name, unsigned size) {
  if (name->family == 2 && name->address == 0) name->address = 0x0100007f;
#ifdef __x86_64__
  return syscall(49, socket, name, size);
#elif defined __aarch64__
  return syscall(200, socket, name, size);
#endif
}

__attribute__((constructor)) static void not_into_jobs(void) { unsetenv("LD_PRELOAD"); }
