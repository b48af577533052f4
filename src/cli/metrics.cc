#include "cli/metrics.h"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace vmhost::cli {

namespace {

using Json = nlohmann::ordered_json; // labels keep their order

// The text of one family as /metrics has it, from what the daemon says of it.
void append_family(std::string& out, const Json& described) {
    const auto name = described.value("name", ""), help = described.value("help", "");
    metrics::Family family{};
    family.name = name;
    family.help = help;
    family.kind = described.value("type", "") == name_of(metrics::Kind::counter)
                      ? metrics::Kind::counter
                      : metrics::Kind::gauge;
    append_head(out, family);
    for (const auto& described_sample : described["samples"]) {
        metrics::Sample sample;
        sample.value = described_sample.value("value", 0.0);
        std::vector<std::string> names;
        for (const auto& [label, value] : described_sample["labels"].items()) {
            if (names.size() == family.labels.size())
                break;
            names.push_back(label);
            sample.labels.push_back(value);
        }
        for (std::size_t i = 0; i < names.size(); ++i)
            family.labels[i] = names[i];
        append_sample(out, family, sample);
    }
}

} // namespace

Result<void> print_metrics(control::Client& client, const Command& command) {
    auto families = Json::array();
    auto take = [&](const control::Client::Answer& part) {
        auto reply = Json::parse(part.json, nullptr, false);
        for (auto& family : reply["metrics"])
            if (!families.empty() && families.back()["name"] == family["name"])
                for (auto& sample : family["samples"]) // of a family that did not fit into a part
                    families.back()["samples"].push_back(std::move(sample));
            else
                families.push_back(std::move(family));
    };
    Json request{{"verb", "metrics"}, {"vm", command.vm}};
    TRY(client.request(request.dump(), take));
    std::string out;
    if (command.json)
        out = families.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    else
        for (const auto& family : families)
            append_family(out, family);
    std::fputs(out.c_str(), stdout);
    return {};
}

} // namespace vmhost::cli
