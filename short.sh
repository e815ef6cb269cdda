#!/bin/bash
#OAR -l core=1,walltime=0:0:10
sleep 100
