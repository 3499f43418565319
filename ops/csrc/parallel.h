// The session's own threads, through ONNX Runtime.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>

#include "ort.h"

namespace deepthin {

class Parallel {
 public:
  Parallel(const Ort& ort, const abi::KernelContext* context) : ort_(ort), context_(context) {}

  // Runs task(0) .. task(count - 1) on the session's threads and waits; the first exception is thrown here.
  template <typename Task>
  void operator()(size_t count, const Task& task) const {
    if (count == 1) return task(size_t{0});
    if (!count) return;
    Job<Task> job{task, {}, {}};
    ort_.check(ort_.api->KernelContext_ParallelFor(context_, &Job<Task>::run, count, count, &job));
    if (job.error) std::rethrow_exception(job.error);
  }

 private:
  template <typename Task>
  struct Job {
    const Task& task;
    std::mutex mutex;
    std::exception_ptr error;

    static void run(void* self, size_t index) {
      Job& job = *static_cast<Job*>(self);
      try {
        job.task(index);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(job.mutex);
        if (!job.error) job.error = std::current_exception();
      }
    }
  };

  const Ort& ort_;
  const abi::KernelContext* context_;
};

}  // namespace deepthin
