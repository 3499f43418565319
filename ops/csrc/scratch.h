// Working memory that is kept between calls and shared by every kernel of the process.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace deepthin {

class ScratchPool : public std::enable_shared_from_this<ScratchPool> {
 public:
  // The process's pool; it lives as long as something holds it.
  static std::shared_ptr<ScratchPool> shared();

  // A cache-line-aligned buffer that goes back to the pool when it is destroyed. A thread gets the one back that it used
  // last, if that is free: what it holds is in the caches of the thread's core, and not in another's.
  class Buffer {
   public:
    Buffer(ScratchPool& pool, size_t floats);
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    // The next `floats` of the buffer, aligned; their contents are arbitrary.
    float* take(size_t floats);
    static size_t rounded(size_t floats) { return (floats + 15) / 16 * 16; }

   private:
    friend class ScratchPool;
    ScratchPool& pool_;
    float* data_;
    size_t size_;
    size_t used_ = 0;
  };

  ~ScratchPool();

 private:
  struct Block {
    float* data;
    size_t size;
    std::thread::id last;  // which thread used it
  };
  static constexpr std::align_val_t kAlignment{64};

  std::mutex mutex_;
  std::vector<Block> free_;
};

}  // namespace deepthin
