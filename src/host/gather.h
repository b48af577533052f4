// What this host counts, gathered for /metrics and vmctl metrics: every process is asked for what
// it has counted, and what the host itself knows of it stands beside that.
//
// One gathering serves everybody who asked while it was under way, and everybody in the second
// after it: who asks in a loop costs no more than a few copies.
//
// Loop thread of the parent.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "loop/loop.h"
#include "metrics/metrics.h"

namespace vmhost::host {

class Host;
class Service;

// What was asked of the daemon since it began.
struct Asked {
    std::uint64_t requests = 0;
    std::uint64_t plans = 0, applied = 0, apply_failed = 0;
};

class Gatherer {
public:
    struct Sources {
        const Host* host = nullptr;
        std::function<std::vector<Service*>()> services; // all there are at the time
        const Asked* asked = nullptr;
        std::function<std::map<std::string, std::uint64_t>()> refusals; // by verb
        std::string version;
    };
    struct Gathered {
        metrics::Samples samples;
        std::string text; // of all of them
    };
    using Done = std::function<void(std::shared_ptr<const Gathered>)>;

    Gatherer(Loop& loop, Sources sources);
    // done is called soon, whatever the processes do; maybe at once.
    void gather(Done done);

private:
    void collect();
    void add_host(metrics::Samples& out) const;
    void add_role(metrics::Samples& out, const Service& service) const;
    void add_own(metrics::Samples& out) const;

    Loop& loop_;
    Sources sources_;
    double started_s_; // since 1970
    std::shared_ptr<const Gathered> last_;
    std::uint64_t made_ms_ = 0; // of it
    std::vector<Done> waiting_;
};

} // namespace vmhost::host
