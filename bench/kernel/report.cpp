#include "report.h"

#include <cstdio>

namespace lethe::bench {

namespace {

std::string escaped(const std::string &text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

template <class... Values>
std::string format(const char *pattern, Values... values) {
  char text[512];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

const char *dtype_name(int32_t dtype) { return dtype == LETHE_BF16 ? "bf16" : "fp32"; }

std::string verdict(const Measured &m) {
  if (m.status != "timed") return m.status == "wrong" ? "WRONG" : "ABSENT";
  if (m.limit == 0) return "";
  return m.share >= m.limit ? "met" : "MISS";
}

std::string json_line(const Measured &m) {
  std::string line = format(R"({"name":"%s","shape":"%s","dtype":"%s","status":"%s")", m.name.c_str(), m.shape.c_str(),
                            dtype_name(m.dtype), m.status.c_str());
  if (!m.why.empty()) line += R"(,"why":")" + escaped(m.why) + '"';
  line += format(R"(,"error":%.3g,"bound":%.3g)", m.error, m.bound);
  if (m.status != "timed") return line + "}";
  line += format(R"(,"ms_median":%.5f,"ms_least":%.5f,"ms_most":%.5f,"samples":%d,"calls":%d)", m.times.median,
                 m.times.least, m.times.most, m.times.samples, m.times.calls);
  line += format(R"(,"bytes":%.0f,"flops":%.0f,"bytes_recorded":%lld,"kernels":%d,"waits":%d,"gemms":[)", m.bytes,
                 m.flops, static_cast<long long>(m.launches.bytes), m.launches.kernels, m.launches.waits);
  const char *separator = "";
  // Chunks repeat one shape hundreds of times.
  for (size_t i = 0; i < m.launches.gemms.size();) {
    size_t same = i;
    while (same < m.launches.gemms.size() && m.launches.gemms[same] == m.launches.gemms[i]) ++same;
    const std::vector<int64_t> &g = m.launches.gemms[i];
    line += format("%s[%lld,%lld,%lld,%zu]", separator, static_cast<long long>(g[0]), static_cast<long long>(g[1]),
                   static_cast<long long>(g[2]), same - i);
    separator = ",";
    i = same;
  }
  line += format(R"(],"ceiling":"%s","ceiling_rate":%.4g,"share":%.4f,"limit":%.2f,"verdict":"%s"})", m.ceiling.c_str(),
                 m.ceiling_rate, m.share, m.limit, verdict(m).c_str());
  return line;
}

std::string row(const Measured &m) {
  const std::string names = "| " + m.name + " | " + m.shape + " | " + dtype_name(m.dtype) + " | ";
  if (m.status != "timed") return names + "| | | | | | " + verdict(m) + ": " + escaped(m.why) + " |\n";
  const double seconds = m.times.median * 1e-3;
  std::string line = names + format("%.4f | %.4f - %.4f | %.0f | ", m.times.median, m.times.least, m.times.most,
                                    m.bytes / seconds * 1e-9);
  line += m.flops > 0 ? format("%.1f | ", m.flops / seconds * 1e-12) : std::string("| ");
  line += format("%.0f %% of %s | ", 100 * m.share, m.ceiling.c_str());
  line += m.launches.kernels + m.launches.gemms.size() > 0
              ? format("%zu | ", static_cast<size_t>(m.launches.kernels) + m.launches.gemms.size())
              : std::string("| ");
  const std::string said = verdict(m);
  return line + (said.empty() ? "" : format("%s (%.0f %%)", said.c_str(), 100 * m.limit)) + " |\n";
}

}  // namespace

bool write_report(const std::string &prefix, const Heading &h, const std::vector<Measured> &all) {
  std::FILE *json = std::fopen((prefix + ".json.part").c_str(), "w");
  std::FILE *table = std::fopen((prefix + ".md.part").c_str(), "w");
  if (json == nullptr || table == nullptr) {
    if (json != nullptr) std::fclose(json);
    if (table != nullptr) std::fclose(table);
    return false;
  }
  int counts[3] = {0, 0, 0}, missed = 0;
  for (const Measured &m : all) {
    ++counts[m.status == "timed" ? 0 : m.status == "wrong" ? 1 : 2];
    missed += verdict(m) == "MISS" ? 1 : 0;
  }
  std::fprintf(json, R"({"what":"bench","device":%s,"commit":"%s","date":"%s","command":"%s","copy_GBps":%.1f,)",
               h.description.c_str(), h.commit.c_str(), h.date.c_str(), h.command.c_str(),
               h.copy_bytes_per_second * 1e-9);
  std::fprintf(json, "\"timed\":%d,\"wrong\":%d,\"absent\":%d,\"missed\":%d,\"results\":[", counts[0], counts[1],
               counts[2], missed);
  std::fprintf(table, "# Kernels%s\n\nDevice %s. Commit %s, %s, `%s`.\n\n", h.small ? ", small shapes: no figures" : "",
               h.description.c_str(), h.commit.c_str(), h.date.c_str(), h.command.c_str());
  std::fprintf(
      table,
      "Each op was compared with the CPU backend at a small shape before it was timed. ms is the median of at\n"
      "least 20 samples (least and most beside it) after a write beyond the L2; a sample holds as many calls as\n"
      "make waiting less than a hundredth of it, and nothing is subtracted. GB/s counts what must be read and\n"
      "written at least. A copy moves %.0f GB/s here; 'products' is the rate of plain linears of the same shapes in\n"
      "the same run, with outputs in bf16. Limits: 80 %% of a copy at 256 MB and more; the head 82 to 90 %% of its\n"
      "products (4 N d V, 6 N d V with a reference), by shape and form.\n"
      "%d timed, %d wrong, %d absent; %d limits missed.\n\n",
      h.copy_bytes_per_second * 1e-9, counts[0], counts[1], counts[2], missed);
  std::fputs("| op | shape | | ms | spread | GB/s | TFLOP/s | share | launches | limit |\n", table);
  std::fputs("|---|---|---|---|---|---|---|---|---|---|\n", table);
  const char *separator = "\n";
  for (const Measured &m : all) {
    std::fprintf(json, "%s%s", separator, json_line(m).c_str());
    std::fputs(row(m).c_str(), table);
    separator = ",\n";
  }
  std::fputs("\n]}\n", json);
  const bool written = std::ferror(json) == 0 && std::ferror(table) == 0;
  const bool closed = (std::fclose(json) == 0) & (std::fclose(table) == 0) & written;
  // In one step: whoever is killed while it writes leaves the files that were there before.
  return closed && std::rename((prefix + ".json.part").c_str(), (prefix + ".json").c_str()) == 0 &&
         std::rename((prefix + ".md.part").c_str(), (prefix + ".md").c_str()) == 0;
}

}  // namespace lethe::bench
