// Counts what a process takes of memory: loaded before it with LD_PRELOAD. glibc's allocator does the work.
#include <atomic>
#include <cstddef>

extern "C" {

void* __libc_malloc(size_t size);
void* __libc_memalign(size_t alignment, size_t size);

static std::atomic<long> counted{0};

long allocations() { return counted; }

void* malloc(size_t size) { return ++counted, __libc_malloc(size); }
void* aligned_alloc(size_t alignment, size_t size) { return ++counted, __libc_memalign(alignment, size); }
int posix_memalign(void** to, size_t alignment, size_t size) {
  *to = aligned_alloc(alignment, size);
  return *to ? 0 : 12;
}
}
