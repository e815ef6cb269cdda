#!/bin/bash
#LOCAL --job-name=old
export COLOUR=blue
python main.py lr=32
python main.py lr=64
