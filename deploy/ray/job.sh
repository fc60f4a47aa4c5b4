#!/bin/sh
# What the job does, from the head: train on the nodes with GPUs, export, classify on those without. What an earlier
# attempt has finished is not done again, and what it has begun goes on.
set -eu
if [ ! -f /runs/mnist/evaluation.json ]; then
  if [ -d /runs/mnist ]; then
    infoae train --nodes 2-8 --workers-per-node 1 --retries 3 --runs /runs --resume mnist
  else
    infoae train --nodes 2-8 --workers-per-node 1 --retries 3 --runs /runs --name mnist \
      --config mnist --global-batch 4000 --device cuda
  fi
fi
if [ ! -d /runs/mnist/bundle ]; then
  infoae export mnist --runs /runs --onnx
fi
if [ -d /runs/pictures ] && [ ! -d /runs/labels ]; then
  infoae classify /runs/pictures --model /runs/mnist/bundle --out /runs/labels --ray --resume
fi
