#!/bin/sh
# Makes fuzz/seeds again, with the program attn. usage: make_fuzz_seeds.sh ATTN
set -eu

attn=${1:?usage: make_fuzz_seeds.sh ATTN}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
seeds=$root/fuzz/seeds
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

rm -rf "$seeds"
for target in safetensors gguf tokenizer config model model_file corpus gold measures checkpoint attend; do mkdir -p "$seeds/$target"; done

printf 'Der Hund schläft.\tThe dog sleeps.\nDie Katze, groß\tThe big cat\nL’homme  rit\tThe man laughs\n' >pairs.tsv
train() { # folder, options…
    out=$1
    shift
    "$attn" train -q -d pairs.tsv --valid pairs.tsv --vocab-size 300 --steps 2 --warmup 1 "$@" -o "$out"
}
small='--set hidden_size=1 --set embedding_size=1'
train rnn --model rnn $small --set num_layers=2 --set readout=maxout
train bahdanau --lowercase $small --set attention_size=2 --set tie_embeddings=false
train transformer --model transformer --set model_size=4 --set heads=2 --set feed_forward_size=3 --set encoder_layers=1 --set decoder_layers=2
train luong $small --set score=general --set input_feeding=true --set reset_after=false --set attention_size=1
for dtype in bf16 i8; do "$attn" convert bahdanau --dtype $dtype -o bahdanau-$dtype; done

for model in rnn bahdanau luong transformer bahdanau-bf16 bahdanau-i8; do
    cp $model/model.safetensors "$seeds/safetensors/$model"
    cp $model/config.json "$seeds/config/$model"
    { cat $model/config.json && printf '\0' && cat $model/model.safetensors; } >"$seeds/model/$model"
done
for model in gpt2 llama3_old qwen2 gemma3; do
    golden=$root/tests/golden/gpt/$model
    cp $golden/config.json "$seeds/config/$model"
    [ $model = qwen2 ] || { cat $golden/config.json && printf '\0' && cat $golden/model.safetensors; } >"$seeds/model/$model"
done
rm -f "$seeds/model/qwen2"
golden=$root/tests/golden/bert/masked
cp $golden/config.json "$seeds/config/bert"
{ cat $golden/config.json && printf '\0' && cat $golden/model.safetensors; } >"$seeds/model/bert"
for model in gpt2 llama llama3 gemma2; do cp "$root/tests/golden/gguf/$model.gguf" "$seeds/model_file/$model"; done
python3 -c 'import array, sys
sizes, floats = array.array("i", [4, 6, 1, 2, 1, -300, 5]), array.array("f", [0.01 * (n % 7) for n in range(2542)])
sys.stdout.buffer.write(sizes.tobytes() + floats.tobytes())' >"$seeds/model_file/llama2c"
cp "$root/tests/golden/blocks.gguf" "$seeds/gguf/all"
cp rnn/tokenizer.json "$seeds/tokenizer/cased"
cp bahdanau/tokenizer.json "$seeds/tokenizer/lowercase"
python3 - "$root/tests/golden/pipelines.json.xz" "$seeds" <<'END'
import base64, json, lzma, sys
golden = json.load(lzma.open(sys.argv[1]))
for row in golden["pipelines"]:
    if row["name"] in ("llama3", "roberta", "bert", "xlmr", "clip", "prefix", "split-next"):
        json.dump(row["tokenizer"], open(f"{sys.argv[2]}/tokenizer/{row['name']}", "w"), ensure_ascii=False, separators=(",", ":"))
for row in golden["files"]:
    if row["name"] in ("unigram-rules", "bpe-plain", "gguf-gpt2", "gguf-llama"):
        folder = "gguf" if row["ending"] == ".gguf" else "tokenizer"
        open(f"{sys.argv[2]}/{folder}/{row['name']}", "wb").write(base64.b64decode(row["file"]))
END

{ printf t && cat pairs.tsv; } >"$seeds/corpus/tsv"
{ printf 't\357\273\277a\tb\tc\r\n\r\nd\te\n'; } >"$seeds/corpus/crlf"
{ printf x && xz -c pairs.tsv; } >"$seeds/corpus/xz"
{ printf z && gzip -nc pairs.tsv; } >"$seeds/corpus/gzip"
{ printf z && gzip -nc pairs.tsv && gzip -nc pairs.tsv; } >"$seeds/corpus/two-members"

printf '0-0 1-1 2p3 4?5\n\n1-2 2-1\n' >"$seeds/gold/two"
printf '1-1 2-2\r\n3-4 10p12\n' >"$seeds/gold/one-based"

printf 'Das ist gut, l’homme: 1,000.5 (six-year)…\nThis "is" good & fine - isn'"'"'t it?' >"$seeds/measures/words"
printf '日本語 テスト ̈ä İstanbul ΣΑΣ\nTOM'"'"'S ... <skipped> &quot;x&quot; 5-6' >"$seeds/measures/scripts"

printf '\0\0\0' >"$seeds/checkpoint/good"
printf '\0\0\0\100\0{' >"$seeds/checkpoint/header"
printf '\0\2\1' >"$seeds/checkpoint/short"
# The first byte: 1 .npy, 2 simplified, 4 causal, 8 additive, 16 two heads.
matrix() { printf '"%s": [[0.5, -0.2], [0.1, 0.8]]' "$1"; }
{ printf '\020{ "tokens": ["a", "b"], ' && for name in x W_q W_k; do matrix $name && printf ', '; done &&
    matrix W_v && printf ' }'; } >"$seeds/attend/heads"
{ printf '\010{ ' && for name in x queries W U; do matrix $name && printf ', '; done &&
    printf '"v": [1, -2e-3] }'; } >"$seeds/attend/additive"
printf '[[1, 2], [3, 4]]' >x.json
{ printf '\004' && cat x.json && printf '\001' && "$attn" attend --causal --json x.json; } >"$seeds/attend/checked"
{ printf '\001\223NUMPY\001\000v\000%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }" &&
    printf '\000\000\200?\000\000\000@'; } >"$seeds/attend/npy"
du -sh "$seeds"
