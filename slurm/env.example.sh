# Sourced at the start of every job: cluster.setup=/path/to/my-env.sh. Copy and edit.
# Jobs also inherit the environment that `understudy run` was typed in, API keys included.
# shellcheck shell=bash

# module load cuda/12.8            # what your site needs before Python
# export HF_HOME=/scratch/$USER/hf # a cache that compute nodes can read and have room in
# export HF_HUB_OFFLINE=1          # where compute nodes have no internet: download first
# . "$HOME/.keys"                  # OPENAI_API_KEY=… in a file of mode 600, if not inherited

export TOKENIZERS_PARALLELISM=false
