// What llama.cpp answers greedily, through its library: GGUF and the number of tokens are the arguments, a
// prompt a line (newlines as \n) the input; a line of JSON each: token ids, tokens, 20 log-probabilities.
// In llama.cpp, built as README.md says but for `--target llama` and with -DBUILD_SHARED_LIBS=OFF:
//   g++ -O2 -fopenmp -I include -I ggml/include first_tokens.cpp build/src/libllama.a \
//     build/ggml/src/libggml.a build/ggml/src/libggml-cpu.a build/ggml/src/libggml-base.a -lpthread -ldl
#include "llama.h"
#include <cstdio>
#include <cmath>
#include <string>
#include <vector>
#include <algorithm>
#include <iostream>
int main(int argc, char ** argv) {
    int steps = atoi(argv[2]);
    llama_log_set([](enum ggml_log_level, const char *, void *) {}, nullptr);
    auto * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) { fprintf(stderr, "no model\n"); return 1; }
    const auto * vocab = llama_model_get_vocab(model);
    auto cp = llama_context_default_params(); cp.n_ctx = 512; cp.n_threads = 1; cp.n_threads_batch = 1;
    std::string line;
    while (std::getline(std::cin, line)) {
        std::string text;
        for (size_t i = 0; i < line.size(); i++) {
            if (line[i] == '\\' && i + 1 < line.size()) { i++; text += line[i] == 'n' ? '\n' : line[i]; }
            else text += line[i];
        }
        std::vector<llama_token> ids(text.size() + 8);
        int n = llama_tokenize(vocab, text.c_str(), text.size(), ids.data(), ids.size(), true, true);
        ids.resize(n);
        printf("{\"ids\":[");
        for (int i = 0; i < n; i++) printf(i ? ",%d" : "%d", ids[i]);
        printf("],\"tokens\":[");
        auto * ctx = llama_init_from_model(model, cp);
        std::vector<std::string> tops; auto batch = llama_batch_get_one(ids.data(), n); llama_token next;
        int nv = llama_vocab_n_tokens(vocab);
        for (int s = 0; s < steps; s++) {
            if (llama_decode(ctx, batch)) { fprintf(stderr, "decode\n"); return 1; }
            float * l = llama_get_logits_ith(ctx, -1);
            double m = *std::max_element(l, l + nv), z = 0;
            for (int i = 0; i < nv; i++) z += std::exp(l[i] - m);
            std::vector<float> sorted(l, l + nv); std::partial_sort(sorted.begin(), sorted.begin() + 20, sorted.end(), std::greater<float>());
            std::string top = "[";
            for (int i = 0; i < 20; i++) { char b[40]; snprintf(b, 40, i ? ",%.9g" : "%.9g", sorted[i] - m - std::log(z)); top += b; }
            tops.push_back(top + "]");
            next = std::max_element(l, l + nv) - l;
            printf(s ? ",%d" : "%d", next);
            if (llama_vocab_is_eog(vocab, next)) break;
            batch = llama_batch_get_one(&next, 1);
        }
        llama_free(ctx);
        printf("],\"likeliest\":[");
        for (size_t i = 0; i < tops.size(); i++) printf(i ? ",%s" : "%s", tops[i].c_str());
        printf("]}\n"); fflush(stdout);
    }
}
