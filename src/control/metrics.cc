// The verb metrics: what this host counts, as JSON. Root reads all of it, everybody else what is
// about VMs of his own. In parts, because thousands of VMs do not fit into one message.
//
// Loop thread of the parent.
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "control/control.h"
#include "control/replies.h"

namespace vmhost::control {

namespace {

// Labels keep their order.
using Json = nlohmann::ordered_json;

Json value_of(double value) {
    constexpr double exact = 9007199254740992.0; // 2^53
    if (std::trunc(value) == value && std::fabs(value) <= exact)
        return static_cast<std::int64_t>(value);
    return value;
}

Json sample_of(const metrics::Family& family, const metrics::Sample& sample) {
    auto labels = Json::object();
    for (std::size_t i = 0; i < sample.labels.size(); ++i)
        labels[std::string(family.labels[i])] = sample.labels[i];
    return {{"labels", labels}, {"value", value_of(sample.value)}};
}

// Collects families and hands them on when there are enough samples.
class Parts {
public:
    explicit Parts(const std::function<void(Reply)>& reply) : reply_(reply) {}

    void add(const metrics::Family& family, const metrics::Sample& sample) {
        if (families_.empty() || last_ != &family) {
            families_.push_back({{"name", std::string(family.name)},
                                 {"type", std::string(name_of(family.kind))},
                                 {"help", std::string(family.help)},
                                 {"samples", Json::array()}});
            last_ = &family;
        }
        families_.back()["samples"].push_back(sample_of(family, sample));
        if (++samples_ == limits::metrics_part_samples)
            send();
    }
    void end() {
        if (samples_ != 0)
            send();
        reply_({text_of(Json{{"ok", true}, {"event", "end"}}), true, {}});
    }

private:
    void send() {
        reply_(
            {text_of(Json{{"ok", true}, {"event", "metrics"}, {"metrics", families_}}), false, {}});
        families_ = Json::array();
        samples_ = 0;
    }

    const std::function<void(Reply)>& reply_;
    Json families_ = Json::array();
    const metrics::Family* last_ = nullptr;
    std::size_t samples_ = 0;
};

} // namespace

void Verbs::metrics(const Caller& caller, const std::string& vm,
                    const std::function<void(Reply)>& reply) {
    auto refuse = [&](const Error& error) {
        nlohmann::json refusal{{"ok", false},
                               {"kind", std::string(name_of(error.kind()))},
                               {"error", error.message()}};
        reply({refusal.dump(-1, ' ', false, Json::error_handler_t::replace), true, {}});
    };
    const bool everything = vm.empty() && operations_.may_change_host(caller);
    std::set<std::string, std::less<>> names;
    if (!vm.empty()) {
        auto row = operations_.find(vm);
        if (!row)
            return refuse(row.error());
        if (!operations_.may_control(caller, row->name))
            return refuse(
                Error(ErrorKind::denied, fmt::format("vm {}: metrics are for its owner {} and root",
                                                     row->name, row->owner)));
        names.insert(row->name);
    } else if (!everything) {
        for (const auto& row : operations_.list())
            if (operations_.may_control(caller, row.name))
                names.insert(row.name);
    }
    operations_.metrics([reply, everything, names](const Operations::Samples& samples) {
        Parts parts(reply);
        for (const auto& family : metrics::families()) {
            const bool of_vms = family.labels[0] == "vm";
            for (const auto& sample : samples->of(family.metric))
                if (everything || (of_vms && names.contains(sample.labels[0])))
                    parts.add(family, sample);
        }
        parts.end();
    });
}

} // namespace vmhost::control
